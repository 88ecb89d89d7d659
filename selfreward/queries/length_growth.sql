-- Do answers grow longer, and are longer ones chosen?
-- The mean length of all candidates, of the chosen and of the rejected ones, and the growth since the
-- iteration before. A `chosen_longer` that stays above 1 teaches the next model to write more.
--
-- :run text = NULL  only this run
--
-- run  name of the run
-- t  the iteration
-- candidates  answers
-- mean_tokens  their mean length
-- growth  mean length by that of the iteration before
-- truncated_share  share cut off at max_tokens
-- empty_share  share without text
-- chosen_tokens  mean length of the chosen ones
-- rejected_tokens  mean length of the rejected ones
-- chosen_longer  the one by the other
SELECT
    run, t, candidates,
    round(CAST(mean_tokens AS NUMERIC), 1) AS mean_tokens,
    round(CAST(mean_tokens / nullif(lag(mean_tokens) OVER (PARTITION BY run ORDER BY t), 0) AS NUMERIC), 3)
        AS growth,
    round(CAST(truncated_share AS NUMERIC), 3) AS truncated_share,
    round(CAST(empty_share AS NUMERIC), 3) AS empty_share,
    round(CAST(chosen_tokens AS NUMERIC), 1) AS chosen_tokens,
    round(CAST(rejected_tokens AS NUMERIC), 1) AS rejected_tokens,
    round(CAST(chosen_tokens / nullif(rejected_tokens, 0) AS NUMERIC), 3) AS chosen_longer
FROM length_by_iteration
WHERE (:run IS NULL OR run = :run)
ORDER BY run, t
