-- Does the order in which two candidates are shown decide which one wins?
-- Of judges that compare a prompt's candidates. Without a bias `first_share` is near one half and
-- `flipped_share` near 0. Both orders are averaged before anything is trained on.
--
-- :run text = NULL  only this run
-- :t integer = NULL  only this iteration
--
-- run  name of the run
-- t  the iteration that had them compared
-- judge  the checkpoint that compares; independent for one that is not of this run
-- comparisons  comparisons that could be read
-- first_share  mean probability that the candidate shown first is better
-- flipped_share  share of the couples read in both orders in which the same place won both times
SELECT
    position_bias.run, position_bias.t, coalesce(checkpoint.name, 'independent') AS judge,
    position_bias.comparisons,
    round(CAST(position_bias.first_share AS NUMERIC), 3) AS first_share,
    round(CAST(position_bias.flipped_share AS NUMERIC), 3) AS flipped_share
FROM position_bias
JOIN judge ON judge.id = position_bias.judge_id
LEFT JOIN checkpoint ON checkpoint.id = judge.checkpoint_id
WHERE (:run IS NULL OR position_bias.run = :run)
  AND (:t IS NULL OR position_bias.t = :t)
ORDER BY position_bias.run, position_bias.t, position_bias.judge_id
