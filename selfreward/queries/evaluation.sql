-- How good is each checkpoint?
-- All figures of the held-out evaluation with their 95% intervals, a metric's checkpoints under each other.
--
-- :run text = NULL  only this run
-- :metric text = NULL  only this one, such as pairwise_accuracy or win_rate_first
--
-- run  name of the run
-- suite  judge, assistant (compared by itself) or assistant_independent
-- metric  what was measured
-- checkpoint  who was measured
-- value  the figure; NULL when there was nothing to measure
-- low  lower end of its 95% interval
-- high  upper end
-- n  items it was measured on
SELECT
    run.name AS run, evaluation.suite, evaluation.metric, evaluation.checkpoint,
    round(CAST(evaluation.value AS NUMERIC), 3) AS value, round(CAST(evaluation.low AS NUMERIC), 3) AS low,
    round(CAST(evaluation.high AS NUMERIC), 3) AS high, evaluation.n
FROM evaluation
JOIN run ON run.id = evaluation.run_id
JOIN checkpoint ON checkpoint.run_id = evaluation.run_id AND checkpoint.name = evaluation.checkpoint
WHERE (:run IS NULL OR run.name = :run)
  AND (:metric IS NULL OR evaluation.metric = :metric)
ORDER BY run.name, evaluation.suite, evaluation.metric, checkpoint.version, evaluation.checkpoint
