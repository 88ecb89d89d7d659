-- How do forks differ from what they come from?
-- The same iteration of a fork and of its parent beside each other, and how their checkpoints did.
--
-- :fork text = NULL  only this fork
--
-- fork  name of the fork
-- parent  the run it comes from
-- t  the iteration
-- fork_pairs  pairs of the fork
-- parent_pairs  pairs of the parent
-- fork_score  mean score in the fork
-- parent_score  mean score in the parent
-- fork_margin  mean margin in the fork
-- parent_margin  mean margin in the parent
-- fork_accuracy  pairwise accuracy of the checkpoint the fork trained in it
-- parent_accuracy  of the one the parent trained
-- fork_win_rate  its win rate against the first checkpoint
-- parent_win_rate  that of the parent's
WITH measured AS (
    SELECT
        run.name AS run, evaluation.checkpoint,
        max(CASE WHEN evaluation.suite = 'judge' AND evaluation.metric = 'pairwise_accuracy'
                 THEN evaluation.value END) AS accuracy,
        max(CASE WHEN evaluation.suite = 'assistant' AND evaluation.metric = 'win_rate_first'
                 THEN evaluation.value END) AS win_rate
    FROM evaluation
    JOIN run ON run.id = evaluation.run_id
    GROUP BY run.name, evaluation.checkpoint
)
SELECT
    run.name AS fork, parent.name AS parent, mine.t,
    mine.pairs AS fork_pairs, theirs.pairs AS parent_pairs,
    round(CAST(mine.mean_score AS NUMERIC), 2) AS fork_score,
    round(CAST(theirs.mean_score AS NUMERIC), 2) AS parent_score,
    round(CAST(mine.mean_margin AS NUMERIC), 2) AS fork_margin,
    round(CAST(theirs.mean_margin AS NUMERIC), 2) AS parent_margin,
    round(CAST(my_measures.accuracy AS NUMERIC), 3) AS fork_accuracy,
    round(CAST(their_measures.accuracy AS NUMERIC), 3) AS parent_accuracy,
    round(CAST(my_measures.win_rate AS NUMERIC), 3) AS fork_win_rate,
    round(CAST(their_measures.win_rate AS NUMERIC), 3) AS parent_win_rate
FROM run
JOIN run AS parent ON parent.id = run.parent_run_id
JOIN iteration_summary AS mine ON mine.run = run.name
LEFT JOIN iteration_summary AS theirs ON theirs.run = parent.name AND theirs.t = mine.t
LEFT JOIN measured AS my_measures ON my_measures.run = run.name AND my_measures.checkpoint = mine.trained
LEFT JOIN measured AS their_measures
  ON their_measures.run = parent.name AND their_measures.checkpoint = theirs.trained
WHERE (:fork IS NULL OR run.name = :fork)
ORDER BY run.name, mine.t
