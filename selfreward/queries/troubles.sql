-- What went wrong, and when was the daemon started again?
-- The run's events without those that every iteration has: starts, stops, failures, warnings, what was
-- restored.
--
-- :run text = NULL  only this run
-- :limit integer = 100  most rows
--
-- id  id of the event
-- run  name of the run
-- t  the iteration it concerns
-- at  UTC
-- kind  what happened
-- message  in a sentence
SELECT event.id, run.name AS run, iteration.t, event.at, event.kind, event.message
FROM event
JOIN run ON run.id = event.run_id
LEFT JOIN iteration ON iteration.id = event.iteration_id
WHERE event.kind NOT IN ('iteration', 'iteration_done', 'stage_done', 'evaluated', 'forked', 'retention')
  AND (:run IS NULL OR run.name = :run)
ORDER BY event.id DESC
LIMIT :limit
