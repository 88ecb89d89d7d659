-- What happened in each iteration, in one line?
-- From prompts to pairs to the next checkpoint.
--
-- :run text = NULL  only this run
--
-- run  name of the run
-- t  the iteration
-- checkpoint  M_t, who worked
-- status  running, done, halted or failed
-- prompts  accepted prompts
-- turned_away  prompts that the filters rejected
-- candidates  answers to the accepted ones
-- readable_share  share of the judgements with a score
-- mean_score  mean of all scores
-- pairs  preference pairs that are trained on
-- pairs_per_prompt  pairs by accepted prompts
-- mean_margin  mean of chosen minus rejected score
-- steps  optimiser steps of the training
-- trained  the checkpoint it made
SELECT
    run, t, checkpoint, status, prompts, rejected_prompts AS turned_away, candidates,
    round(CAST(1.0 * readable / nullif(judgements, 0) AS NUMERIC), 3) AS readable_share,
    round(CAST(mean_score AS NUMERIC), 2) AS mean_score,
    pairs,
    round(CAST(1.0 * pairs / nullif(prompts, 0) AS NUMERIC), 3) AS pairs_per_prompt,
    round(CAST(mean_margin AS NUMERIC), 2) AS mean_margin,
    steps, trained
FROM iteration_summary
WHERE (:run IS NULL OR run = :run)
ORDER BY run, t
