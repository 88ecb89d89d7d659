-- Which versions of the libraries were used when?
-- More than one row for a library means that it changed during the run.
--
-- :run text = NULL  only this run
--
-- library  python, selfreward, torch, …
-- version  its version
-- run  name of the run
-- first_t  first iteration with it
-- last_t  last iteration with it
-- stages  stages that were started with it
-- @sqlite
WITH used AS (
    SELECT run.name AS run, iteration.t, each.key AS library, each.value AS version
    FROM stage
    JOIN iteration ON iteration.id = stage.iteration_id
    JOIN run ON run.id = iteration.run_id
    JOIN json_each(stage.versions) AS each ON each.value IS NOT NULL
    WHERE stage.versions IS NOT NULL AND (:run IS NULL OR run.name = :run)
)
SELECT library, version, run, min(t) AS first_t, max(t) AS last_t, count(*) AS stages
FROM used
GROUP BY run, library, version
ORDER BY run, library, min(t), version
-- @postgresql
WITH used AS (
    SELECT run.name AS run, iteration.t, each.key AS library, each.value AS version
    FROM stage
    JOIN iteration ON iteration.id = stage.iteration_id
    JOIN run ON run.id = iteration.run_id
    JOIN LATERAL jsonb_each_text(stage.versions) AS each ON each.value IS NOT NULL
    WHERE stage.versions IS NOT NULL AND (:run IS NULL OR run.name = :run)
)
SELECT library, version, run, min(t) AS first_t, max(t) AS last_t, count(*) AS stages
FROM used
GROUP BY run, library, version
ORDER BY run, library, min(t), version
