-- How many written prompts were turned away, and why?
-- A growing share of `similar` means that the model runs out of ideas. `surplus` ones were good but not
-- needed.
--
-- :run text = NULL  only this run
--
-- run  name of the run
-- t  the iteration that wrote them
-- reason  why; accepted for those that were kept
-- prompts  how many
-- share  share of what was written
WITH counted AS (
    SELECT prompt.iteration_id, coalesce(prompt.reject_reason, prompt.status) AS reason, count(*) AS prompts
    FROM prompt
    WHERE prompt.iteration_id IS NOT NULL
    GROUP BY prompt.iteration_id, coalesce(prompt.reject_reason, prompt.status)
)
SELECT
    run.name AS run, iteration.t, counted.reason, counted.prompts,
    round(CAST(1.0 * counted.prompts / sum(counted.prompts) OVER (PARTITION BY iteration.id) AS NUMERIC), 3)
        AS share
FROM counted
JOIN iteration ON iteration.id = counted.iteration_id
JOIN run ON run.id = iteration.run_id
WHERE (:run IS NULL OR run.name = :run)
ORDER BY run.name, iteration.t, counted.prompts DESC, counted.reason
