-- Which prompts contain these words?
-- Whole words, all of them, in any order, upper or lower case. The newest first.
--
-- :words text = 'name'  the words
-- :run text = NULL  only this run
-- :limit integer = 50  most rows
--
-- id  id of the prompt
-- run  name of the run
-- t  the iteration that wrote it; NULL for seeds
-- source  seed or self_instruct
-- status  accepted or rejected
-- reject_reason  why it was turned away
-- prompt  its text
-- @sqlite
SELECT
    prompt.id, run.name AS run, iteration.t, prompt.source, prompt.status, prompt.reject_reason,
    prompt.text AS prompt
FROM prompt_search
JOIN prompt ON prompt.id = prompt_search.rowid
JOIN run ON run.id = prompt.run_id
LEFT JOIN iteration ON iteration.id = prompt.iteration_id
WHERE prompt_search MATCH '"' || replace(replace(:words, '"', ''), ' ', '" "') || '"'
  AND (:run IS NULL OR run.name = :run)
ORDER BY prompt.id DESC
LIMIT :limit
-- @postgresql
SELECT
    prompt.id, run.name AS run, iteration.t, prompt.source, prompt.status, prompt.reject_reason,
    prompt.text AS prompt
FROM prompt
JOIN run ON run.id = prompt.run_id
LEFT JOIN iteration ON iteration.id = prompt.iteration_id
WHERE to_tsvector('simple', prompt.text) @@ plainto_tsquery('simple', :words)
  AND (:run IS NULL OR run.name = :run)
ORDER BY prompt.id DESC
LIMIT :limit
