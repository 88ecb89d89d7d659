-- Which prompts does the model keep writing again?
-- The prompts that were most often the nearest neighbour of one turned away as similar.
--
-- :run text = NULL  only this run
-- :limit integer = 20  most rows
--
-- id  id of the prompt
-- source  seed or self_instruct
-- prompt  its text
-- repeats  prompts turned away for it
-- mean_rouge_l  their mean similarity to it
-- example  one of them
SELECT
    original.id, original.source, original.text AS prompt, found.repeats,
    round(CAST(found.mean_rouge_l AS NUMERIC), 3) AS mean_rouge_l, example.text AS example
FROM (
    SELECT
        prompt.nearest_prompt_id, count(*) AS repeats, avg(prompt.nearest_rouge_l) AS mean_rouge_l,
        max(prompt.id) AS example_id
    FROM prompt
    JOIN run ON run.id = prompt.run_id
    WHERE prompt.reject_reason = 'similar' AND prompt.nearest_prompt_id IS NOT NULL
      AND (:run IS NULL OR run.name = :run)
    GROUP BY prompt.nearest_prompt_id
) AS found
JOIN prompt AS original ON original.id = found.nearest_prompt_id
JOIN prompt AS example ON example.id = found.example_id
ORDER BY found.repeats DESC, original.id
LIMIT :limit
