-- How many prompts gave pairs, and why did the others give none?
-- unscored: too few readable judgements; tie: all candidates the same score; twins: the same text;
-- below_margin: too small a difference; unanchored: the earlier model's answer scores no lower than the best;
-- surplus: left out for the balance of sources; pair_too_long: longer than the trainer takes.
--
-- :run text = NULL  only this run
-- :t integer = NULL  only this iteration
--
-- run  name of the run
-- t  the iteration
-- outcome  what became of the prompts
-- prompts  how many
-- share  share of the iteration's prompts
SELECT
    run, t, outcome, prompts,
    round(CAST(1.0 * prompts / sum(prompts) OVER (PARTITION BY run, t) AS NUMERIC), 3) AS share
FROM pair_outcomes
WHERE (:run IS NULL OR run = :run)
  AND (:t IS NULL OR t = :t)
ORDER BY run, t, prompts DESC, outcome
