-- What was M_t trained on?
-- The preference pairs behind a checkpoint, in the order in which they were made.
--
-- :checkpoint text = NULL  only this one, such as M_2
-- :run text = NULL  only this run
-- :limit integer = 50  most rows
--
-- run  name of the run
-- checkpoint  what was trained
-- pair_id  id of the pair
-- margin  chosen minus rejected score
-- chosen_tokens  length of the chosen answer
-- rejected_tokens  length of the rejected one
-- prompt  beginning of the prompt
-- chosen  beginning of the chosen answer
-- rejected  beginning of the rejected one
SELECT
    run.name AS run, checkpoint.name AS checkpoint, preference_pair.id AS pair_id,
    round(CAST(preference_pair.margin AS NUMERIC), 2) AS margin,
    better.token_count AS chosen_tokens, worse.token_count AS rejected_tokens,
    substr(prompt.text, 1, 100) AS prompt, substr(better.text, 1, 200) AS chosen,
    substr(worse.text, 1, 200) AS rejected
FROM checkpoint
JOIN run ON run.id = checkpoint.run_id
JOIN iteration ON iteration.run_id = checkpoint.run_id AND 'M_' || (iteration.t + 1) = checkpoint.name
JOIN preference_pair ON preference_pair.iteration_id = iteration.id
JOIN prompt ON prompt.id = preference_pair.prompt_id
JOIN candidate AS better ON better.id = preference_pair.chosen_id
JOIN candidate AS worse ON worse.id = preference_pair.rejected_id
WHERE preference_pair.excluded IS NULL
  AND (:checkpoint IS NULL OR checkpoint.name = :checkpoint)
  AND (:run IS NULL OR run.name = :run)
ORDER BY preference_pair.id
LIMIT :limit
