-- How clear are the pairs that were trained on?
-- The pairs of each iteration by their margin. Many small margins are noise that is trained on.
-- Imported pairs without scores are left out.
--
-- :run text = NULL  only this run
-- :t integer = NULL  only this iteration
--
-- run  name of the run
-- t  the iteration
-- from_margin  smallest margin of the class; it is one point wide
-- pairs  pairs in it
-- share  share of the iteration's pairs
-- excluded  those of them left out of the training
WITH classed AS (
    SELECT
        run.name AS run, iteration.t,
        CAST(round(round(CAST(preference_pair.margin AS NUMERIC), 6) - 0.5) AS INTEGER) AS from_margin,
        preference_pair.excluded
    FROM preference_pair
    JOIN iteration ON iteration.id = preference_pair.iteration_id
    JOIN run ON run.id = iteration.run_id
    WHERE preference_pair.margin IS NOT NULL
      AND (:run IS NULL OR run.name = :run)
      AND (:t IS NULL OR iteration.t = :t)
)
SELECT
    run, t, from_margin, count(*) AS pairs,
    round(CAST(1.0 * count(*) / sum(count(*)) OVER (PARTITION BY run, t) AS NUMERIC), 3) AS share,
    count(excluded) AS excluded
FROM classed
GROUP BY run, t, from_margin
ORDER BY run, t, from_margin
