-- Can the judge of each iteration be trusted?
-- How many of its judgements can be read, whether its scores tell answers apart, whether it likes what is
-- long, and how often it agrees with people. A share of ties or of one score near 1 means that it has
-- collapsed.
--
-- :run text = NULL  only this run
-- :t integer = NULL  only this iteration
--
-- run  name of the run
-- t  the iteration
-- checkpoint  the judge, M_t
-- judgements  judgements of candidates
-- readable_share  share of them with a score
-- mean_score  mean of the scores, 0 to 5
-- score_sd  their standard deviation
-- commonest_score  the score it gives most, in tenths
-- commonest_share  share of the scores that are this one
-- tie_share  share of scored prompts all of whose candidates have the same mean score
-- spread  as the gate `spread` found it; NULL before the check
-- length_correlation  of score and length, as the gate found it
-- pairwise_accuracy  share of held-out pairs of replies it puts in the order of the people
-- accuracy_low  lower end of its 95% interval
-- accuracy_high  upper end
-- gates_raised  gates that warned or paused
SELECT
    run, t, checkpoint, judgements,
    round(CAST(readable_share AS NUMERIC), 3) AS readable_share,
    round(CAST(mean_score AS NUMERIC), 2) AS mean_score,
    round(CAST(score_sd AS NUMERIC), 2) AS score_sd,
    commonest_score,
    round(CAST(commonest_share AS NUMERIC), 3) AS commonest_share,
    round(CAST(tie_share AS NUMERIC), 3) AS tie_share,
    round(CAST(spread AS NUMERIC), 2) AS spread,
    round(CAST(length_correlation AS NUMERIC), 2) AS length_correlation,
    round(CAST(pairwise_accuracy AS NUMERIC), 3) AS pairwise_accuracy,
    round(CAST(accuracy_low AS NUMERIC), 3) AS accuracy_low,
    round(CAST(accuracy_high AS NUMERIC), 3) AS accuracy_high,
    gates_raised
FROM judge_health
WHERE (:run IS NULL OR run = :run)
  AND (:t IS NULL OR t = :t)
ORDER BY run, t
