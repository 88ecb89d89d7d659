-- Which stages were started again or failed?
-- Stages with more than one start or with an error, and the items that could not be made.
--
-- :run text = NULL  only this run
--
-- run  name of the run
-- t  the iteration
-- stage  which stage
-- status  where it stands
-- attempts  how often it was started
-- error  why it failed last
-- failed_items  items that failed at least once
-- an_item  id of one of them
-- item_error  what was said about it
SELECT
    run.name AS run, iteration.t, stage.name AS stage, stage.status, stage.attempts, stage.error,
    coalesce(failed.items, 0) AS failed_items, failed.an_item, item_failure.last_error AS item_error
FROM stage
JOIN iteration ON iteration.id = stage.iteration_id
JOIN run ON run.id = iteration.run_id
LEFT JOIN (
    SELECT stage_id, count(*) AS items, max(item_id) AS an_item FROM item_failure GROUP BY stage_id
) AS failed ON failed.stage_id = stage.id
LEFT JOIN item_failure ON item_failure.stage_id = stage.id AND item_failure.item_id = failed.an_item
WHERE (stage.attempts > 1 OR stage.error IS NOT NULL OR failed.items > 0)
  AND (:run IS NULL OR run.name = :run)
ORDER BY run.name, iteration.t, stage.id
