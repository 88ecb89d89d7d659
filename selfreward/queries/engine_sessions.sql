-- How did the inference servers do?
-- Each life of one: how long it took to start, how long it served, how fast. Without an end it died with its
-- daemon.
--
-- :run text = NULL  only this run
-- :limit integer = 50  most rows
--
-- run  name of the run
-- t  the iteration
-- session_id  id of the session
-- checkpoint  the model it served
-- engine  vllm or fake
-- seed  what it sampled from
-- started_at  UTC
-- start_seconds  until it answered
-- served_seconds  from then until its end
-- prompt_tokens  tokens it read
-- generated_tokens  tokens it wrote
-- tokens_per_second  tokens it wrote by the seconds it served
-- @sqlite
WITH timed AS (
    SELECT
        engine_session.*,
        (julianday(ready_at) - julianday(started_at)) * 86400 AS start_seconds,
        (julianday(finished_at) - julianday(ready_at)) * 86400 AS served_seconds
    FROM engine_session
)
SELECT
    run.name AS run, iteration.t, timed.id AS session_id, checkpoint.name AS checkpoint, timed.engine,
    timed.seed, timed.started_at, round(timed.start_seconds, 1) AS start_seconds,
    round(timed.served_seconds, 1) AS served_seconds, timed.prompt_tokens, timed.generated_tokens,
    round(timed.generated_tokens / nullif(timed.served_seconds, 0), 1) AS tokens_per_second
FROM timed
JOIN iteration ON iteration.id = timed.iteration_id
JOIN run ON run.id = iteration.run_id
JOIN checkpoint ON checkpoint.id = timed.checkpoint_id
WHERE (:run IS NULL OR run.name = :run)
ORDER BY timed.id DESC
LIMIT :limit
-- @postgresql
WITH timed AS (
    SELECT
        engine_session.*,
        CAST(extract(epoch FROM ready_at - started_at) AS NUMERIC) AS start_seconds,
        CAST(extract(epoch FROM finished_at - ready_at) AS NUMERIC) AS served_seconds
    FROM engine_session
)
SELECT
    run.name AS run, iteration.t, timed.id AS session_id, checkpoint.name AS checkpoint, timed.engine,
    timed.seed, timed.started_at, round(timed.start_seconds, 1) AS start_seconds,
    round(timed.served_seconds, 1) AS served_seconds, timed.prompt_tokens, timed.generated_tokens,
    round(timed.generated_tokens / nullif(timed.served_seconds, 0), 1) AS tokens_per_second
FROM timed
JOIN iteration ON iteration.id = timed.iteration_id
JOIN run ON run.id = iteration.run_id
JOIN checkpoint ON checkpoint.id = timed.checkpoint_id
WHERE (:run IS NULL OR run.name = :run)
ORDER BY timed.id DESC
LIMIT :limit
