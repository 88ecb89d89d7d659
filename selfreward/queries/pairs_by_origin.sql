-- What are the pairs made of?
-- The model's own (ai, from a judge's scores) and each imported file, as they were trained on or left out.
--
-- :run text = NULL  only this run
-- :t integer = NULL  only this iteration
--
-- run  name of the run
-- t  the iteration
-- origin  ai, or the name of the imported file
-- pairs  pairs that are trained on
-- share  their share of those of the iteration
-- prompts  prompts that they are about
-- excluded  pairs that were left out of the training
-- soft_labels  pairs trained on that carry a probability
-- mean_margin  mean of chosen_score minus rejected_score, where there are scores
SELECT
    run.name AS run, iteration.t, preference_pair.origin,
    count(CASE WHEN preference_pair.excluded IS NULL THEN 1 END) AS pairs,
    round(CAST(1.0 * count(CASE WHEN preference_pair.excluded IS NULL THEN 1 END)
               / nullif(sum(count(CASE WHEN preference_pair.excluded IS NULL THEN 1 END))
                        OVER (PARTITION BY run.name, iteration.t), 0) AS NUMERIC), 3) AS share,
    count(DISTINCT CASE WHEN preference_pair.excluded IS NULL THEN preference_pair.prompt_id END) AS prompts,
    count(preference_pair.excluded) AS excluded,
    count(CASE WHEN preference_pair.excluded IS NULL THEN preference_pair.soft_label END) AS soft_labels,
    round(CAST(avg(CASE WHEN preference_pair.excluded IS NULL THEN preference_pair.margin END) AS NUMERIC), 3)
        AS mean_margin
FROM preference_pair
JOIN iteration ON iteration.id = preference_pair.iteration_id
JOIN run ON run.id = iteration.run_id
WHERE (:run IS NULL OR run.name = :run)
  AND (:t IS NULL OR iteration.t = :t)
GROUP BY run.name, iteration.t, preference_pair.origin
ORDER BY run.name, iteration.t, preference_pair.origin
