-- For which prompts do several candidates share the best score?
-- The chosen one is then one of several that the judge likes equally: a finer rubric or more judgements
-- would tell.
--
-- :run text = NULL  only this run
-- :t integer = NULL  this iteration; else the last judged one of each run
-- :limit integer = 20  most rows
--
-- run  name of the run
-- t  the iteration
-- prompt_id  id of the prompt
-- best_score  mean score of the best
-- at_the_top  candidates that have it
-- candidates  scored candidates of the prompt
-- prompts_like_it  prompts of the iteration with such a tie
-- prompt  beginning of the prompt
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
),
scored AS (
    SELECT
        chosen.run, chosen.t, candidate.prompt_id, candidate.id, avg(judgement.score) AS score
    FROM chosen
    JOIN candidate ON candidate.iteration_id = chosen.data_iteration_id AND candidate.checkpoint_id IS NULL
    JOIN judgement ON judgement.candidate_id = candidate.id AND judgement.judge_id = chosen.judge_id
    GROUP BY chosen.run, chosen.t, candidate.prompt_id, candidate.id
    HAVING count(judgement.score) > 0
),
ranked AS (
    SELECT
        run, t, prompt_id, score,
        max(score) OVER (PARTITION BY run, t, prompt_id) AS best_score
    FROM scored
)
SELECT
    tied.run, tied.t, tied.prompt_id, round(CAST(tied.best_score AS NUMERIC), 2) AS best_score,
    tied.at_the_top, tied.candidates, tied.prompts_like_it, substr(prompt.text, 1, 100) AS prompt
FROM (
    SELECT
        run, t, prompt_id, best_score, count(CASE WHEN score > best_score - 1e-9 THEN 1 END) AS at_the_top,
        count(*) AS candidates, count(*) OVER (PARTITION BY run, t) AS prompts_like_it
    FROM ranked
    GROUP BY run, t, prompt_id, best_score
    HAVING count(CASE WHEN score > best_score - 1e-9 THEN 1 END) > 1
    ORDER BY at_the_top DESC, best_score DESC, prompt_id
    LIMIT :limit
) AS tied
JOIN prompt ON prompt.id = tied.prompt_id
ORDER BY tied.at_the_top DESC, tied.best_score DESC, tied.prompt_id
