-- How did the candidates end?
-- Cut off, empty, too long for the context, or as they should: a high share of `truncated` asks for more
-- max_tokens.
--
-- :run text = NULL  only this run
-- :t integer = NULL  only this iteration
--
-- run  name of the run
-- t  the iteration
-- status  ok, truncated, empty, too_long or failed
-- candidates  how many
-- share  share of the iteration's candidates
-- mean_tokens  their mean length
SELECT
    run.name AS run, iteration.t, candidate_tally.status, candidate_tally.candidates,
    round(CAST(1.0 * candidate_tally.candidates
               / sum(candidate_tally.candidates) OVER (PARTITION BY iteration.id) AS NUMERIC), 3) AS share,
    round(CAST(1.0 * candidate_tally.tokens / candidate_tally.candidates AS NUMERIC), 1) AS mean_tokens
FROM iteration
JOIN run ON run.id = iteration.run_id
JOIN candidate_tally ON candidate_tally.iteration_id = iteration.data_iteration_id
WHERE candidate_tally.candidates > 0
  AND (:run IS NULL OR run.name = :run)
  AND (:t IS NULL OR iteration.t = :t)
ORDER BY run.name, iteration.t, candidate_tally.candidates DESC
