-- Did the training learn anything?
-- Loss and margin at the first and at the last step of each training. DPO begins at 0.693 with margin 0; an
-- accuracy of 1 after few steps is memorised.
--
-- :run text = NULL  only this run
--
-- run  name of the run
-- t  the iteration
-- steps  optimiser steps
-- first_loss  loss at the first step
-- last_loss  loss at the last
-- lowest_loss  lowest of all steps
-- first_margin  reward margin at the first step
-- last_margin  at the last
-- last_accuracy  share of pairs in the right order at the last step
-- highest_grad_norm  largest gradient norm
SELECT
    ends.run, ends.t, ends.steps,
    round(CAST(first_step.loss AS NUMERIC), 4) AS first_loss,
    round(CAST(last_step.loss AS NUMERIC), 4) AS last_loss,
    round(CAST(ends.lowest_loss AS NUMERIC), 4) AS lowest_loss,
    round(CAST(first_step.margin AS NUMERIC), 4) AS first_margin,
    round(CAST(last_step.margin AS NUMERIC), 4) AS last_margin,
    round(CAST(last_step.accuracy AS NUMERIC), 3) AS last_accuracy,
    round(CAST(ends.highest_grad_norm AS NUMERIC), 3) AS highest_grad_norm
FROM (
    SELECT
        run, t, min(step) AS first_step, max(step) AS steps, min(loss) AS lowest_loss,
        max(grad_norm) AS highest_grad_norm
    FROM training_curve
    WHERE loss IS NOT NULL AND (:run IS NULL OR run = :run)
    GROUP BY run, t
) AS ends
JOIN training_curve AS first_step
  ON first_step.run = ends.run AND first_step.t = ends.t AND first_step.step = ends.first_step
JOIN training_curve AS last_step
  ON last_step.run = ends.run AND last_step.t = ends.t AND last_step.step = ends.steps
ORDER BY ends.run, ends.t
