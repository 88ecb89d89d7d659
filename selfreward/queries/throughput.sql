-- Where does the time go?
-- Every stage of every iteration: how long it took, which share of the iteration's work, and how fast it
-- was. Stages of one engine session run at the same time.
--
-- :run text = NULL  only this run
-- :t integer = NULL  only this iteration
--
-- run  name of the run
-- t  the iteration
-- stage  which stage
-- seconds  from first start to end; NULL while it runs
-- share  share of the seconds of all stages
-- items  what it made or measured
-- tokens  tokens that were generated
-- items_per_second  rate
-- tokens_per_second  rate
SELECT
    run, t, stage, round(CAST(seconds AS NUMERIC), 1) AS seconds,
    round(CAST(seconds / nullif(sum(seconds) OVER (PARTITION BY run, t), 0) AS NUMERIC), 3) AS share,
    items, tokens, round(CAST(items_per_second AS NUMERIC), 2) AS items_per_second,
    round(CAST(tokens_per_second AS NUMERIC), 1) AS tokens_per_second
FROM throughput
WHERE (:run IS NULL OR run = :run)
  AND (:t IS NULL OR t = :t)
ORDER BY run, t, started_at, stage
