-- Which pairs have the largest margin?
-- What the next checkpoint learns from most clearly. Read one with `selfreward show pair ID`.
--
-- :run text = NULL  only this run
-- :t integer = NULL  this iteration; else the last one of each run that has pairs
-- :limit integer = 20  most rows
--
-- run  name of the run
-- t  the iteration
-- pair_id  id of the pair
-- chosen_score  mean score of the chosen one
-- rejected_score  of the rejected one
-- margin  the difference
-- prompt  beginning of the prompt
-- chosen  beginning of the chosen answer
-- rejected  beginning of the rejected one
WITH chosen AS (
    SELECT run.name AS run, iteration.t, iteration.id
    FROM iteration
    JOIN run ON run.id = iteration.run_id
    WHERE (:run IS NULL OR run.name = :run)
      AND iteration.t = coalesce(:t, (
        SELECT max(other.t) FROM iteration AS other
        WHERE other.run_id = iteration.run_id
          AND EXISTS (SELECT 1 FROM preference_pair WHERE preference_pair.iteration_id = other.id)
      ))
)
SELECT
    chosen.run, chosen.t, preference_pair.id AS pair_id,
    round(CAST(preference_pair.chosen_score AS NUMERIC), 2) AS chosen_score,
    round(CAST(preference_pair.rejected_score AS NUMERIC), 2) AS rejected_score,
    round(CAST(preference_pair.margin AS NUMERIC), 2) AS margin,
    substr(prompt.text, 1, 100) AS prompt, substr(better.text, 1, 200) AS chosen,
    substr(worse.text, 1, 200) AS rejected
FROM chosen
JOIN preference_pair ON preference_pair.iteration_id = chosen.id
JOIN prompt ON prompt.id = preference_pair.prompt_id
JOIN candidate AS better ON better.id = preference_pair.chosen_id
JOIN candidate AS worse ON worse.id = preference_pair.rejected_id
WHERE preference_pair.margin IS NOT NULL
ORDER BY preference_pair.margin DESC, preference_pair.id
LIMIT :limit
