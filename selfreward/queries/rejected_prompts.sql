-- Which prompts were turned away, and what were they too similar to?
-- The newest first, each with its nearest neighbour in the pool when it was written.
--
-- :run text = NULL  only this run
-- :t integer = NULL  only this iteration
-- :reason text = NULL  only these: empty, cut_off, too_short, too_long, keyword, bad_start, similar, surplus
-- :limit integer = 50  most rows
--
-- run  name of the run
-- t  the iteration that wrote it
-- id  id of the prompt
-- reason  why it was turned away
-- rouge_l  similarity to its nearest neighbour, 0 to 1
-- prompt  its text
-- nearest_id  id of the nearest neighbour
-- nearest  text of the nearest neighbour
SELECT
    run.name AS run, iteration.t, prompt.id, prompt.reject_reason AS reason,
    round(CAST(prompt.nearest_rouge_l AS NUMERIC), 3) AS rouge_l,
    prompt.text AS prompt, prompt.nearest_prompt_id AS nearest_id, nearest.text AS nearest
FROM prompt
JOIN iteration ON iteration.id = prompt.iteration_id
JOIN run ON run.id = iteration.run_id
LEFT JOIN prompt AS nearest ON nearest.id = prompt.nearest_prompt_id
WHERE prompt.status = 'rejected'
  AND (:run IS NULL OR run.name = :run)
  AND (:t IS NULL OR iteration.t = :t)
  AND (:reason IS NULL OR prompt.reject_reason = :reason)
ORDER BY prompt.id DESC
LIMIT :limit
