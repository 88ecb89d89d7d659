-- How often does a prompt get the same answer twice?
-- Identical candidates are no pair and cost as much as different ones: the sampling temperature may be too
-- low.
--
-- :run text = NULL  only this run
-- :t integer = NULL  this iteration; else the last judged one of each run
--
-- run  name of the run
-- t  the iteration
-- different  different texts among a prompt's candidates
-- candidates  its candidates
-- prompts  prompts for which it is so
-- share  share of the iteration's prompts
WITH chosen AS (
    SELECT run.name AS run, iteration.t, iteration.data_iteration_id, iteration.judge_id
    FROM iteration
    JOIN run ON run.id = iteration.run_id
    WHERE (:run IS NULL OR run.name = :run)
      AND iteration.t = coalesce(:t, (
        SELECT max(other.t) FROM iteration AS other
        WHERE other.run_id = iteration.run_id
          AND other.judge_id IS NOT NULL
      ))
)
SELECT
    counted.run, counted.t, counted.different, counted.candidates, count(*) AS prompts,
    round(CAST(1.0 * count(*) / sum(count(*)) OVER (PARTITION BY counted.run, counted.t) AS NUMERIC), 3)
        AS share
FROM (
    SELECT
        chosen.run, chosen.t, candidate.prompt_id,
        count(DISTINCT candidate.text) AS different, count(*) AS candidates
    FROM chosen
    JOIN candidate ON candidate.iteration_id = chosen.data_iteration_id AND candidate.checkpoint_id IS NULL
    GROUP BY chosen.run, chosen.t, candidate.prompt_id
) AS counted
GROUP BY counted.run, counted.t, counted.different, counted.candidates
ORDER BY counted.run, counted.t, counted.different, counted.candidates
