-- How many tokens did each iteration cost?
-- Tokens that were generated: answers and judgements, and what one preference pair cost.
--
-- :run text = NULL  only this run
--
-- run  name of the run
-- t  the iteration
-- candidate_tokens  tokens of the answers
-- judgement_tokens  tokens of the judgements
-- judging_share  share of the judgements
-- pairs  pairs that are trained on
-- tokens_per_pair  tokens by pairs
SELECT
    run.name AS run, iteration.t, answered.tokens AS candidate_tokens, judged.tokens AS judgement_tokens,
    round(CAST(1.0 * judged.tokens / nullif(answered.tokens + judged.tokens, 0) AS NUMERIC), 3)
        AS judging_share,
    paired.pairs,
    round(CAST(1.0 * (answered.tokens + judged.tokens) / nullif(paired.pairs, 0) AS NUMERIC), 1)
        AS tokens_per_pair
FROM iteration
JOIN run ON run.id = iteration.run_id
JOIN (
    SELECT iteration_id, CAST(sum(tokens) AS BIGINT) AS tokens FROM candidate_tally GROUP BY iteration_id
) AS answered ON answered.iteration_id = iteration.data_iteration_id
LEFT JOIN (
    SELECT iteration_id, judge_id, CAST(sum(tokens) AS BIGINT) AS tokens
    FROM judgement_tally GROUP BY iteration_id, judge_id
) AS judged ON judged.iteration_id = iteration.data_iteration_id AND judged.judge_id = iteration.judge_id
LEFT JOIN (
    SELECT iteration_id, count(*) AS pairs FROM preference_pair WHERE excluded IS NULL GROUP BY iteration_id
) AS paired ON paired.iteration_id = iteration.id
WHERE (:run IS NULL OR run.name = :run)
ORDER BY run.name, iteration.t
