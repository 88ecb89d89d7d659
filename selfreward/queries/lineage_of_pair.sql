-- Where does a pair come from?
-- From the pair on which a model was trained back to the prompt, the demonstrations it was written from, all
-- candidates and all judgements, with who wrote them.
--
-- :pair integer = 1  id of the pair
--
-- run  name of the run
-- t  the iteration
-- pair_id  id of the pair
-- prompt_id  id of the prompt
-- prompt  its text
-- demonstrations  ids of the prompts it was written from, in order
-- candidate_id  id of a candidate
-- candidate_index  0 to N-1
-- role  chosen, rejected or other
-- candidate  its text
-- judgement_id  id of a judgement of it
-- sample  0 to K-1
-- score  0 to 5, or NULL
-- judgement  its text
-- written_by  the checkpoint that answered
-- judged_by  the checkpoint that judged
-- trained  the checkpoint that was trained on the pair
SELECT
    run, t, pair_id, prompt_id, prompt, demonstrations, candidate_id, candidate_index, role, candidate,
    judgement_id, sample, score, judgement, written_by, judged_by, trained
FROM lineage
WHERE pair_id = :pair
ORDER BY candidate_index, sample
