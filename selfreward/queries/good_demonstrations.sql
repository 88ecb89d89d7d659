-- Which demonstrations lead to prompts that are accepted?
-- For each prompt that was shown as an example: how many of the prompts written from it were kept.
--
-- :run text = NULL  only this run
-- :t integer = NULL  this iteration; else the last one of each run that wrote prompts
-- :least integer = 3  only demonstrations that were shown at least so often
-- :limit integer = 30  most rows
--
-- run  name of the run
-- t  the iteration
-- id  id of the demonstration
-- source  seed or self_instruct
-- demonstration  its text
-- shown  prompts written with it before them
-- accepted_share  share of them that were accepted
-- similar_share  share that were too similar to another
WITH chosen AS (
    SELECT run.name AS run, iteration.t, iteration.id
    FROM iteration
    JOIN run ON run.id = iteration.run_id
    WHERE (:run IS NULL OR run.name = :run)
      AND iteration.t = coalesce(:t, (
        SELECT max(other.t) FROM iteration AS other
        WHERE other.run_id = iteration.run_id
          AND EXISTS (SELECT 1 FROM prompt WHERE prompt.iteration_id = other.id)
      ))
)
SELECT
    used.run, used.t, prompt.id, prompt.source, prompt.text AS demonstration, used.shown,
    round(CAST(1.0 * used.accepted / used.shown AS NUMERIC), 3) AS accepted_share,
    round(CAST(1.0 * used.similar_ones / used.shown AS NUMERIC), 3) AS similar_share
FROM (
    SELECT
        chosen.run, chosen.t, prompt_demonstration.demonstration_id, count(*) AS shown,
        count(*) FILTER (WHERE written.status = 'accepted') AS accepted,
        count(*) FILTER (WHERE written.reject_reason = 'similar') AS similar_ones
    FROM chosen
    JOIN prompt AS written ON written.iteration_id = chosen.id
    JOIN prompt_demonstration ON prompt_demonstration.prompt_id = written.id
    GROUP BY chosen.run, chosen.t, prompt_demonstration.demonstration_id
    HAVING count(*) >= :least
) AS used
JOIN prompt ON prompt.id = used.demonstration_id
ORDER BY used.run, accepted_share DESC, used.shown DESC, prompt.id
LIMIT :limit
