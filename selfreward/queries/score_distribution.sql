-- How are the scores distributed in each iteration?
-- A judge that is well adjusted uses the whole scale. Unreadable judgements are the row with score NULL.
--
-- :run text = NULL  only this run
-- :t integer = NULL  only this iteration
--
-- run  name of the run
-- t  the iteration
-- score  0 to 5, in tenths; NULL for what could not be read
-- judgements  how many have it
-- share  share of the iteration's judgements
SELECT
    run, t, score, judgements,
    round(CAST(1.0 * judgements / sum(judgements) OVER (PARTITION BY run, t) AS NUMERIC), 3) AS share
FROM score_histogram
WHERE (:run IS NULL OR run = :run)
  AND (:t IS NULL OR t = :t)
ORDER BY run, t, CASE WHEN score IS NULL THEN 1 ELSE 0 END, score
