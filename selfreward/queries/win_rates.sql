-- Does each checkpoint answer better than the one before?
-- How often its held-out answers were preferred. `better` only where the whole interval lies above one half.
--
-- :run text = NULL  only this run
--
-- run  name of the run
-- checkpoint  who was measured
-- against  previous or first checkpoint
-- judge  itself, or independent
-- win_rate  share of comparisons won, ties as half
-- low  lower end of its 95% interval
-- high  upper end
-- n  prompts compared
-- finding  better, worse, or not told apart
SELECT
    run.name AS run, evaluation.checkpoint,
    CASE evaluation.metric WHEN 'win_rate_previous' THEN 'previous' ELSE 'first' END AS against,
    CASE evaluation.suite WHEN 'assistant' THEN 'itself' ELSE 'independent' END AS judge,
    round(CAST(evaluation.value AS NUMERIC), 3) AS win_rate, round(CAST(evaluation.low AS NUMERIC), 3) AS low,
    round(CAST(evaluation.high AS NUMERIC), 3) AS high, evaluation.n,
    CASE WHEN evaluation.low > 0.5 THEN 'better' WHEN evaluation.high < 0.5 THEN 'worse'
         ELSE 'not told apart' END AS finding
FROM evaluation
JOIN run ON run.id = evaluation.run_id
JOIN checkpoint ON checkpoint.run_id = evaluation.run_id AND checkpoint.name = evaluation.checkpoint
WHERE evaluation.metric IN ('win_rate_previous', 'win_rate_first')
  AND evaluation.value IS NOT NULL
  AND (:run IS NULL OR run.name = :run)
ORDER BY run.name, checkpoint.version, evaluation.metric DESC, evaluation.suite
