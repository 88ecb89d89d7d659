-- Does the judge give longer answers better scores?
-- Candidates by length in tokens, with their mean score. A rising column can be quality, and can be a bias.
--
-- :run text = NULL  only this run
-- :t integer = NULL  this iteration; else the last judged one of each run
-- :step integer = 50  width of a class of lengths, tokens
--
-- run  name of the run
-- t  the iteration
-- from_tokens  shortest length of the class
-- to_tokens  longest
-- candidates  judged candidates in it
-- mean_score  mean of their scores
-- top_share  share of their scores that are 4 or more
WITH chosen AS (
    SELECT run.name AS run, iteration.t, iteration.data_iteration_id, iteration.judge_id
    FROM iteration
    JOIN run ON run.id = iteration.run_id
    WHERE (:run IS NULL OR run.name = :run)
      AND iteration.t = coalesce(:t, (
        SELECT max(other.t) FROM iteration AS other
        WHERE other.run_id = iteration.run_id
          AND other.judge_id IS NOT NULL
      ))
)
SELECT
    scored.run, scored.t, scored.class * :step AS from_tokens, (scored.class + 1) * :step - 1 AS to_tokens,
    count(*) AS candidates,
    round(CAST(sum(scored.score_sum) / sum(scored.scores) AS NUMERIC), 2) AS mean_score,
    round(CAST(1.0 * sum(scored.top) / sum(scored.scores) AS NUMERIC), 3) AS top_share
FROM (
    SELECT
        chosen.run, chosen.t, candidate.token_count / :step AS class,
        sum(judgement.score) AS score_sum, count(judgement.score) AS scores,
        count(CASE WHEN judgement.score >= 4 THEN 1 END) AS top
    FROM chosen
    JOIN candidate ON candidate.iteration_id = chosen.data_iteration_id AND candidate.checkpoint_id IS NULL
    JOIN judgement ON judgement.candidate_id = candidate.id AND judgement.judge_id = chosen.judge_id
    GROUP BY chosen.run, chosen.t, candidate.id, candidate.token_count
) AS scored
WHERE scored.scores > 0
GROUP BY scored.run, scored.t, scored.class
ORDER BY scored.run, scored.t, scored.class
