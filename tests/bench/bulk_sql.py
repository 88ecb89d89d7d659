"""The statements that write a run in bulk, a hundred thousand rows at a time, and the scores they give."""

NUMBERS = "WITH RECURSIVE n(i) AS (SELECT 0 UNION ALL SELECT i + 1 FROM n WHERE i + 1 < :count) "
CANDIDATES = """
    INSERT INTO candidate (iteration_id, prompt_id, candidate_index, session_id, text, status, finish_reason,
                           token_count, mean_logprob, created_at)
    SELECT prompt.iteration_id, prompt.id, n.i, :session,
           CASE WHEN (prompt.id + n.i) % 101 = 0 THEN ''
                ELSE substr(CAST(:filler AS TEXT), CAST(1 + (prompt.id * 131 + n.i * 977) % 3000 AS INTEGER),
                            CAST(80 + (prompt.id * 53 + n.i * 211) % 500 AS INTEGER)) END,
           CASE WHEN (prompt.id + n.i) % 101 = 0 THEN 'empty' ELSE 'ok' END, 'stop', 100, -0.7, :at
    FROM prompt CROSS JOIN n
    WHERE prompt.iteration_id = :iteration AND prompt.status = 'accepted' ORDER BY prompt.id, n.i
"""
CANDIDATES_OF = """
    SELECT id, prompt_id, candidate_index, status FROM candidate WHERE iteration_id = :iteration ORDER BY id
"""
SCORE = """CASE WHEN candidate.prompt_id % 11 = 0 THEN 3
                ELSE (candidate.prompt_id + 2 * candidate.candidate_index) % 6 END"""
UNREADABLE = "(candidate.id + n.i) % 29 = 0"
JUDGEMENTS = f"""
    INSERT INTO judgement (candidate_id, judge_id, sample, session_id, raw_text, status, score, token_count,
                           finish_reason, created_at)
    SELECT candidate.id, :judge, n.i, :session,
           substr(CAST(:filler AS TEXT), 1, CAST(70 + (candidate.id * 37 + n.i * 101) % 200 AS INTEGER))
             || CASE WHEN {UNREADABLE} THEN '' ELSE 'Score: ' || CAST({SCORE} AS TEXT) END,
           CASE WHEN {UNREADABLE} THEN 'unreadable' ELSE 'read' END,
           CASE WHEN {UNREADABLE} THEN NULL ELSE {SCORE} END, 40, 'stop', :at
    FROM candidate CROSS JOIN n
    WHERE candidate.iteration_id = :iteration AND candidate.status = 'ok' AND candidate.id <= :last
    ORDER BY candidate.id, n.i
"""
CANDIDATE_TALLY = """
    INSERT INTO candidate_tally (iteration_id, status, candidates, tokens)
    SELECT iteration_id, status, count(*), sum(token_count) FROM candidate
    WHERE iteration_id = :iteration GROUP BY iteration_id, status
"""
JUDGEMENT_TALLY = """
    INSERT INTO judgement_tally (iteration_id, judge_id, status, tenth, judgements, score_sum, score_squares,
                                 tokens)
    SELECT candidate.iteration_id, judgement.judge_id, judgement.status,
           CAST(coalesce(10 * judgement.score, 0) AS INTEGER), count(*), sum(coalesce(judgement.score, 0)),
           sum(coalesce(judgement.score * judgement.score, 0)), sum(judgement.token_count)
    FROM candidate JOIN judgement ON judgement.candidate_id = candidate.id
    WHERE candidate.iteration_id = :iteration GROUP BY 1, 2, 3, 4
"""
DEMONSTRATIONS = """
    INSERT INTO prompt_demonstration (prompt_id, position, demonstration_id)
    SELECT prompt.id, n.i, 1 + (prompt.id * 7 + n.i * 13) % :seeds
    FROM prompt CROSS JOIN n WHERE prompt.iteration_id = :iteration ORDER BY prompt.id, n.i
"""
ANSWERS = """
    INSERT INTO answer (checkpoint_id, prompt_id, session_id, text, status, finish_reason, token_count,
                        mean_logprob, created_at)
    SELECT :checkpoint, prompt.id, :session, substr(CAST(:filler AS TEXT), 1, 300), 'ok', 'stop', 60, -0.7,
           :at
    FROM prompt WHERE prompt.split = 'held_out' ORDER BY prompt.id
"""
REPLY_JUDGEMENTS = """
    INSERT INTO reply_judgement (reply_id, judge_id, sample, session_id, raw_text, status, score, token_count,
                                 finish_reason, created_at)
    SELECT ranked_reply.id, :judge, 0, :session, 'Score: 3', 'read', 3, 3, 'stop', :at
    FROM ranked_reply JOIN prompt ON prompt.id = ranked_reply.prompt_id
    WHERE prompt.split = 'held_out' ORDER BY ranked_reply.id
"""


def score_of(prompt: int, index: int) -> float:
    """What `SCORE` is in SQL."""
    return 3.0 if prompt % 11 == 0 else float((prompt + 2 * index) % 6)
