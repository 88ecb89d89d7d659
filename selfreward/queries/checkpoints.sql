-- Which checkpoints are there, and which still take up disk?
-- Every model with what it came from. `removed` ones have lost their files to retention; `pinned` ones never
-- do. Copies with the same digest are the same model.
--
-- :run text = NULL  only this run
--
-- run  name of the run
-- checkpoint  its name
-- kind  base, sft or dpo
-- parent  what it was trained from
-- parent_run  the run that made that one
-- on_disk  yes, pinned (stays) or removed
-- path  its directory, relative to that of the root run
-- digest  beginning of the sum over its files
-- same_model  checkpoints with this digest
-- created_at  UTC
-- removed_at  UTC
SELECT
    run.name AS run, checkpoint.name AS checkpoint, checkpoint.kind, parent.name AS parent,
    parent_run.name AS parent_run,
    CASE WHEN checkpoint.removed_at IS NOT NULL THEN 'removed'
         WHEN checkpoint.pinned THEN 'pinned' ELSE 'yes' END AS on_disk,
    checkpoint.path, substr(checkpoint.digest, 1, 12) AS digest,
    (SELECT count(*) FROM checkpoint AS other WHERE other.digest = checkpoint.digest) AS same_model,
    checkpoint.created_at, checkpoint.removed_at
FROM checkpoint
JOIN run ON run.id = checkpoint.run_id
LEFT JOIN checkpoint AS parent ON parent.id = checkpoint.parent_id
LEFT JOIN run AS parent_run ON parent_run.id = parent.run_id
WHERE (:run IS NULL OR run.name = :run)
ORDER BY run.name, checkpoint.version, checkpoint.id
