-- About which candidates does the judge disagree with itself?
-- The candidates whose sampled judgements lie furthest apart. Read them with `selfreward show candidate ID`.
--
-- :run text = NULL  only this run
-- :t integer = NULL  this iteration; else the last judged one of each run
-- :limit integer = 20  most rows
--
-- run  name of the run
-- t  the iteration
-- candidate_id  id of the candidate
-- prompt_id  id of its prompt
-- low  its lowest score
-- high  its highest
-- apart  the difference
-- scores  readable judgements of it
-- prompt  beginning of the prompt
-- candidate  beginning of the answer
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
    widest.run, widest.t, candidate.id AS candidate_id, prompt.id AS prompt_id,
    widest.low, widest.high, widest.high - widest.low AS apart, widest.scores,
    substr(prompt.text, 1, 100) AS prompt, substr(candidate.text, 1, 200) AS candidate
FROM (
    SELECT
        chosen.run, chosen.t, judgement.candidate_id,
        min(judgement.score) AS low, max(judgement.score) AS high, count(judgement.score) AS scores
    FROM chosen
    JOIN candidate ON candidate.iteration_id = chosen.data_iteration_id
    JOIN judgement ON judgement.candidate_id = candidate.id AND judgement.judge_id = chosen.judge_id
    GROUP BY chosen.run, chosen.t, judgement.candidate_id
    HAVING max(judgement.score) > min(judgement.score)
    ORDER BY max(judgement.score) - min(judgement.score) DESC, judgement.candidate_id
    LIMIT :limit
) AS widest
JOIN candidate ON candidate.id = widest.candidate_id
JOIN prompt ON prompt.id = candidate.prompt_id
ORDER BY apart DESC, candidate.id
