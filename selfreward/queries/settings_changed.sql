-- Which settings differ between iterations?
-- From one iteration of a run to the next, and from a fork to the iteration that it starts from.
--
-- :run text = NULL  only this run
--
-- run  name of the run
-- t  the iteration
-- before_run  the run it is compared with
-- before_t  the iteration it is compared with
-- setting  dotted name of the setting
-- before_value  what it was
-- now_value  what it is
-- @sqlite
WITH leaf AS (
    SELECT
        setting.hash, replace(substr(tree.fullkey, 3), '"', '') AS name,
        CASE WHEN tree.type IN ('true', 'false') THEN tree.type ELSE CAST(tree.value AS TEXT) END AS value
    FROM setting, json_tree(setting.body) AS tree
    WHERE tree.type <> 'object' AND tree.type <> 'null' AND tree.fullkey NOT LIKE '%[%'
),
step AS (
    SELECT
        run.name AS run, iteration.t, iteration.setting_hash AS now_hash,
        CASE WHEN earlier.id IS NOT NULL THEN run.name ELSE parent.name END AS before_run,
        coalesce(earlier.t, origin.t) AS before_t,
        coalesce(earlier.setting_hash, origin.setting_hash) AS before_hash
    FROM iteration
    JOIN run ON run.id = iteration.run_id
    LEFT JOIN run AS parent ON parent.id = run.parent_run_id
    LEFT JOIN iteration AS earlier
      ON earlier.run_id = iteration.run_id
     AND earlier.t = (SELECT max(other.t) FROM iteration AS other
                       WHERE other.run_id = iteration.run_id AND other.t < iteration.t)
    LEFT JOIN iteration AS origin
      ON earlier.id IS NULL AND origin.run_id = run.parent_run_id AND origin.t = run.parent_iteration
    WHERE (:run IS NULL OR run.name = :run)
)
SELECT
    step.run, step.t, step.before_run, step.before_t,
    named.name AS setting, before_leaf.value AS before_value, now_leaf.value AS now_value
FROM step
JOIN (
    SELECT DISTINCT name FROM leaf
) AS named ON true
LEFT JOIN leaf AS now_leaf ON now_leaf.hash = step.now_hash AND now_leaf.name = named.name
LEFT JOIN leaf AS before_leaf ON before_leaf.hash = step.before_hash AND before_leaf.name = named.name
WHERE step.now_hash <> step.before_hash
  AND coalesce(now_leaf.value, '') <> coalesce(before_leaf.value, '')
ORDER BY step.run, step.t, setting
-- @postgresql
WITH RECURSIVE node AS (
    SELECT setting.hash, top.key AS name, top.value
    FROM setting, jsonb_each(setting.body) AS top
    UNION ALL
    SELECT node.hash, node.name || '.' || inner_one.key, inner_one.value
    FROM node,
         jsonb_each(CASE jsonb_typeof(node.value) WHEN 'object' THEN node.value ELSE '{}' END) AS inner_one
),
leaf AS (
    SELECT hash, name, value #>> '{}' AS value
    FROM node
    WHERE jsonb_typeof(value) NOT IN ('object', 'null')
),
step AS (
    SELECT
        run.name AS run, iteration.t, iteration.setting_hash AS now_hash,
        CASE WHEN earlier.id IS NOT NULL THEN run.name ELSE parent.name END AS before_run,
        coalesce(earlier.t, origin.t) AS before_t,
        coalesce(earlier.setting_hash, origin.setting_hash) AS before_hash
    FROM iteration
    JOIN run ON run.id = iteration.run_id
    LEFT JOIN run AS parent ON parent.id = run.parent_run_id
    LEFT JOIN iteration AS earlier
      ON earlier.run_id = iteration.run_id
     AND earlier.t = (SELECT max(other.t) FROM iteration AS other
                       WHERE other.run_id = iteration.run_id AND other.t < iteration.t)
    LEFT JOIN iteration AS origin
      ON earlier.id IS NULL AND origin.run_id = run.parent_run_id AND origin.t = run.parent_iteration
    WHERE (:run IS NULL OR run.name = :run)
)
SELECT
    step.run, step.t, step.before_run, step.before_t,
    named.name AS setting, before_leaf.value AS before_value, now_leaf.value AS now_value
FROM step
JOIN (
    SELECT DISTINCT name FROM leaf
) AS named ON true
LEFT JOIN leaf AS now_leaf ON now_leaf.hash = step.now_hash AND now_leaf.name = named.name
LEFT JOIN leaf AS before_leaf ON before_leaf.hash = step.before_hash AND before_leaf.name = named.name
WHERE step.now_hash <> step.before_hash
  AND coalesce(now_leaf.value, '') <> coalesce(before_leaf.value, '')
ORDER BY step.run, step.t, setting
