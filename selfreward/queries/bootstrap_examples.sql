-- What was the first model taught, and what was left out?
-- The examples of the bootstrap (iteration 0): to answer (ift) and to judge (eft), kept or dropped and why.
--
-- :run text = NULL  only this run
--
-- run  name of the run
-- kind  ift or eft
-- outcome  kept, or why it was dropped
-- examples  how many
-- share  share of its kind
SELECT
    run, kind, outcome, examples,
    round(CAST(1.0 * examples / sum(examples) OVER (PARTITION BY run, kind) AS NUMERIC), 3) AS share
FROM bootstrap_examples
WHERE (:run IS NULL OR run = :run)
ORDER BY run, kind, examples DESC, outcome
