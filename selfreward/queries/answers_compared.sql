-- How do two checkpoints answer the same prompts?
-- Held-out answers side by side, with how often the second one was preferred by any judge.
--
-- :first text = NULL  the one checkpoint; else the first that answered
-- :second text = NULL  the other; else the last that answered
-- :run text = NULL  only this run
-- :limit integer = 20  most rows
--
-- run  name of the run
-- prompt_id  id of the held-out prompt
-- prompt  beginning of the prompt
-- first  the one checkpoint
-- first_answer  its answer
-- second  the other checkpoint
-- second_answer  its answer
-- second_wins  comparisons the second one won
-- comparisons  comparisons of the two that could be read
WITH author AS (
    SELECT
        run.name AS run, checkpoint.id, checkpoint.name, checkpoint.run_id,
        min(checkpoint.version) OVER (PARTITION BY checkpoint.run_id) AS earliest,
        max(checkpoint.version) OVER (PARTITION BY checkpoint.run_id) AS latest, checkpoint.version
    FROM checkpoint
    JOIN run ON run.id = checkpoint.run_id
    WHERE EXISTS (SELECT 1 FROM answer WHERE answer.checkpoint_id = checkpoint.id)
      AND (:run IS NULL OR run.name = :run)
)
SELECT
    one.run, prompt.id AS prompt_id, substr(prompt.text, 1, 100) AS prompt,
    one.name AS first, before.text AS first_answer, other.name AS second, later.text AS second_answer,
    (SELECT count(*) FROM answer_comparison
      WHERE answer_comparison.first_id = later.id AND answer_comparison.second_id = before.id
        AND answer_comparison.verdict = 'first')
    + (SELECT count(*) FROM answer_comparison
        WHERE answer_comparison.first_id = before.id AND answer_comparison.second_id = later.id
          AND answer_comparison.verdict = 'second') AS second_wins,
    (SELECT count(answer_comparison.verdict) FROM answer_comparison
      WHERE (answer_comparison.first_id = later.id AND answer_comparison.second_id = before.id)
         OR (answer_comparison.first_id = before.id AND answer_comparison.second_id = later.id))
        AS comparisons
FROM author AS one
JOIN author AS other ON other.run_id = one.run_id AND other.id <> one.id
JOIN answer AS before ON before.checkpoint_id = one.id
JOIN answer AS later ON later.checkpoint_id = other.id AND later.prompt_id = before.prompt_id
JOIN prompt ON prompt.id = before.prompt_id
WHERE ((:first IS NULL AND one.version = one.earliest) OR one.name = :first)
  AND ((:second IS NULL AND other.version = other.latest) OR other.name = :second)
ORDER BY one.run, prompt.id
LIMIT :limit
