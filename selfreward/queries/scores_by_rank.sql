-- Does the judge score as people rank?
-- Held-out replies by the place that people gave them: a judge that agrees gives place 0 the highest mean.
--
-- :checkpoint text = NULL  only this judge, such as M_2
-- :run text = NULL  only this run
--
-- run  name of the run
-- checkpoint  the judge
-- rank  place given by people; 0 is best
-- replies  replies at this place
-- judgements  judgements of them
-- readable  of these with a score
-- mean_score  mean of the scores
SELECT
    run.name AS run, checkpoint.name AS checkpoint, ranked_reply.rank,
    count(DISTINCT ranked_reply.id) AS replies, count(*) AS judgements,
    count(reply_judgement.score) AS readable,
    round(CAST(avg(reply_judgement.score) AS NUMERIC), 2) AS mean_score
FROM reply_judgement
JOIN judge ON judge.id = reply_judgement.judge_id
JOIN checkpoint ON checkpoint.id = judge.checkpoint_id
JOIN run ON run.id = checkpoint.run_id
JOIN ranked_reply ON ranked_reply.id = reply_judgement.reply_id
JOIN prompt ON prompt.id = ranked_reply.prompt_id
WHERE prompt.split = 'held_out' AND ranked_reply.canary_of IS NULL
  AND (:checkpoint IS NULL OR checkpoint.name = :checkpoint)
  AND (:run IS NULL OR run.name = :run)
GROUP BY run.name, checkpoint.version, checkpoint.name, ranked_reply.rank
ORDER BY run.name, checkpoint.version, checkpoint.name, ranked_reply.rank
