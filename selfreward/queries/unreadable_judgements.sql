-- What did the judge write where no score could be read?
-- The newest first, whole. They often show at once whether max_tokens is too small or the format is not
-- learnt.
--
-- :run text = NULL  only this run
-- :t integer = NULL  this iteration; else the last judged one of each run
-- :limit integer = 20  most rows
--
-- run  name of the run
-- t  the iteration
-- judgement_id  id of the judgement
-- candidate_id  what it judges
-- status  unreadable, out_of_range, too_long or failed
-- finish_reason  as the engine said; length: cut off
-- token_count  tokens of the reply
-- judgement  the judge's reply
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
    chosen.run, chosen.t, judgement.id AS judgement_id, judgement.candidate_id, judgement.status,
    judgement.finish_reason, judgement.token_count, judgement.raw_text AS judgement
FROM chosen
JOIN candidate ON candidate.iteration_id = chosen.data_iteration_id
JOIN judgement ON judgement.candidate_id = candidate.id AND judgement.judge_id = chosen.judge_id
WHERE judgement.status <> 'read'
ORDER BY judgement.id DESC
LIMIT :limit
