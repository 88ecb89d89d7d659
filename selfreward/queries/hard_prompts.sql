-- Which prompts get only bad answers?
-- Those whose best candidate has the lowest mean score: beyond the model, or badly put.
--
-- :run text = NULL  only this run
-- :t integer = NULL  this iteration; else the last one of each run that was paired
-- :limit integer = 20  most rows
--
-- run  name of the run
-- t  the iteration
-- prompt_id  id of the prompt
-- best_score  mean score of its best candidate
-- worst_score  of its worst
-- outcome  whether it gave a pair, and if not, why
-- prompt  beginning of the prompt
WITH chosen AS (
    SELECT run.name AS run, iteration.t, iteration.id
    FROM iteration
    JOIN run ON run.id = iteration.run_id
    WHERE (:run IS NULL OR run.name = :run)
      AND iteration.t = coalesce(:t, (
        SELECT max(other.t) FROM iteration AS other
        WHERE other.run_id = iteration.run_id
          AND EXISTS (SELECT 1 FROM pair_decision WHERE pair_decision.iteration_id = other.id)
      ))
)
SELECT
    chosen.run, chosen.t, pair_decision.prompt_id,
    round(CAST(pair_decision.best_score AS NUMERIC), 2) AS best_score,
    round(CAST(pair_decision.worst_score AS NUMERIC), 2) AS worst_score,
    pair_decision.outcome, substr(prompt.text, 1, 100) AS prompt
FROM chosen
JOIN pair_decision ON pair_decision.iteration_id = chosen.id
JOIN prompt ON prompt.id = pair_decision.prompt_id
WHERE pair_decision.best_score IS NOT NULL
ORDER BY pair_decision.best_score, pair_decision.prompt_id
LIMIT :limit
