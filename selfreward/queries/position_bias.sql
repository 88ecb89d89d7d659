-- Does the judge of comparisons prefer what it is shown first?
-- Every two answers are compared in both orders. Without a bias, `first_share` is near one half and
-- `same_winner` near 1.
--
-- :run text = NULL  only this run
--
-- run  name of the run
-- judge  the checkpoint that compares; independent for one that is not of this run
-- comparisons  comparisons that could be read
-- unreadable  those that could not
-- first_share  share of verdicts for the answer shown first
-- both_orders  pairs of answers read in both orders
-- same_winner  share of these in which the same answer won both times
WITH pairs AS (
    SELECT
        there.judge_id, there.verdict, back.verdict AS back,
        CASE WHEN there.first_id < there.second_id THEN 1 END AS counted,
        CASE WHEN there.first_id < there.second_id THEN there.second_id ELSE there.first_id END AS newer_id
    FROM answer_comparison AS there
    LEFT JOIN answer_comparison AS back
      ON back.judge_id = there.judge_id
     AND back.first_id = there.second_id
     AND back.second_id = there.first_id
)
SELECT
    run.name AS run, coalesce(checkpoint.name, 'independent') AS judge,
    count(pairs.verdict) AS comparisons, count(*) - count(pairs.verdict) AS unreadable,
    round(CAST(1.0 * count(CASE WHEN pairs.verdict = 'first' THEN 1 END)
               / nullif(count(pairs.verdict), 0) AS NUMERIC), 3) AS first_share,
    count(CASE WHEN pairs.counted = 1 AND pairs.verdict IS NOT NULL AND pairs.back IS NOT NULL THEN 1 END)
        AS both_orders,
    round(CAST(1.0 * count(CASE WHEN pairs.counted = 1 AND pairs.verdict <> pairs.back THEN 1 END)
               / nullif(count(CASE WHEN pairs.counted = 1 AND pairs.verdict IS NOT NULL
                                    AND pairs.back IS NOT NULL THEN 1 END), 0) AS NUMERIC), 3) AS same_winner
FROM pairs
JOIN answer ON answer.id = pairs.newer_id
JOIN checkpoint AS author ON author.id = answer.checkpoint_id
JOIN run ON run.id = author.run_id
JOIN judge ON judge.id = pairs.judge_id
LEFT JOIN checkpoint ON checkpoint.id = judge.checkpoint_id
WHERE (:run IS NULL OR run.name = :run)
GROUP BY run.name, pairs.judge_id, checkpoint.version, checkpoint.name
ORDER BY run.name, checkpoint.version, checkpoint.name, pairs.judge_id
