"""What a run's database holds, in terms that two runs on two databases can be compared by."""

from collections import Counter
from collections.abc import Mapping
from typing import Any

from sqlalchemy import Connection, Engine, inspect, text

Row = tuple[Any, ...]
Content = dict[str, list[Row]]

JUDGE = "coalesce(judged_by.name, 'independent'), judge.type, judge.digest"


def _by(table: str) -> str:
    """The judge of a table's rows."""
    return f"""JOIN judge ON judge.id = {table}.judge_id
               LEFT JOIN checkpoint AS judged_by ON judged_by.id = judge.checkpoint_id"""


# Whatever is made of the seeds, by names and texts instead of ids and times. A row that is there twice
# is there twice.
CONTENT = {
    "prompts": """
        SELECT t, draw, draw_index, text, prompt.status, reject_reason, nearest_rouge_l
        FROM prompt JOIN iteration ON iteration.id = prompt.iteration_id""",
    "demonstrations": """
        SELECT t, prompt.draw, prompt.draw_index, shown.position, model.text
        FROM prompt_demonstration AS shown JOIN prompt ON prompt.id = shown.prompt_id
        JOIN prompt AS model ON model.id = shown.demonstration_id
        JOIN iteration ON iteration.id = prompt.iteration_id""",
    "seeds": "SELECT text, split FROM prompt WHERE source = 'seed'",
    "replies": "SELECT prompt.text, position, rank, canary_of IS NULL, ranked_reply.text "
    "FROM ranked_reply JOIN prompt ON prompt.id = prompt_id",
    "candidates": """
        SELECT t, prompt.text, candidate_index, candidate.text, candidate.status, finish_reason, token_count,
               mean_logprob
        FROM candidate JOIN prompt ON prompt.id = prompt_id
        JOIN iteration ON iteration.id = candidate.iteration_id""",
    "judgements": f"""
        SELECT {JUDGE}, prompt.text, candidate_index, sample, raw_text, judgement.status, score
        FROM judgement JOIN candidate ON candidate.id = candidate_id
        JOIN prompt ON prompt.id = candidate.prompt_id {_by("judgement")}""",
    "candidate tallies": """
        SELECT t, candidate_tally.status, candidates, tokens
        FROM candidate_tally JOIN iteration ON iteration.id = iteration_id""",
    "judgement tallies": f"""
        SELECT {JUDGE}, t, judgement_tally.status, tenth, judgements, score_sum, score_squares, tokens
        FROM judgement_tally JOIN iteration ON iteration.id = iteration_id {_by("judgement_tally")}""",
    "decisions": """
        SELECT t, text, outcome, best_score, worst_score
        FROM pair_decision JOIN prompt ON prompt.id = prompt_id
        JOIN iteration ON iteration.id = pair_decision.iteration_id""",
    "pairs": f"""
        SELECT t, {JUDGE}, prompt.text, chosen.candidate_index, rejected.candidate_index, chosen_score,
               rejected_score, margin, excluded
        FROM preference_pair JOIN prompt ON prompt.id = preference_pair.prompt_id
        JOIN candidate AS chosen ON chosen.id = chosen_id
        JOIN candidate AS rejected ON rejected.id = rejected_id
        JOIN iteration ON iteration.id = preference_pair.iteration_id {_by("preference_pair")}""",
    "imported pairs": """
        SELECT t, preference_pair.origin, prompt.text, chosen.text, rejected.text, excluded
        FROM preference_pair JOIN prompt ON prompt.id = preference_pair.prompt_id
        JOIN candidate AS chosen ON chosen.id = chosen_id
        JOIN candidate AS rejected ON rejected.id = rejected_id
        JOIN iteration ON iteration.id = preference_pair.iteration_id
        WHERE preference_pair.judge_id IS NULL""",
    "checkpoints": """
        SELECT model.name, model.version, model.kind, model.path, model.digest, parent.name,
               model.removed_at IS NULL
        FROM checkpoint AS model LEFT JOIN checkpoint AS parent ON parent.id = model.parent_id""",
    "iterations": """
        SELECT t, status, checkpoint.name FROM iteration JOIN checkpoint ON checkpoint.id = checkpoint_id""",
    "stages": """
        SELECT t, name, stage.status, error FROM stage JOIN iteration ON iteration.id = iteration_id""",
    "curve": "SELECT t, step, loss, margin, accuracy, learning_rate FROM training_curve",
    "reward curve": """
        SELECT DISTINCT t, step, name, value FROM training_metric
        JOIN iteration ON iteration.id = iteration_id WHERE stage = 'train_reward'""",
    "gates": """
        SELECT t, gate, state, value FROM gate_check JOIN iteration ON iteration.id = iteration_id""",
    "examples": """
        SELECT sft_example.kind, prompt.text, sft_example.position, input, completion, sft_example.score,
               kept, drop_reason
        FROM sft_example JOIN prompt ON prompt.id = sft_example.prompt_id""",
    "reply judgements": f"""
        SELECT {JUDGE}, prompt.text, ranked_reply.position, sample, raw_text, reply_judgement.status,
               reply_judgement.score
        FROM reply_judgement JOIN ranked_reply ON ranked_reply.id = reply_id
        JOIN prompt ON prompt.id = ranked_reply.prompt_id {_by("reply_judgement")}""",
    "answers": """
        SELECT checkpoint.name, prompt.text, answer.text, answer.status
        FROM answer JOIN prompt ON prompt.id = prompt_id JOIN checkpoint ON checkpoint.id = checkpoint_id""",
    "comparisons": f"""
        SELECT {JUDGE}, prompt.text, one.name, other.name, verdict, probability_first, raw_text
        FROM answer_comparison
        JOIN answer AS first ON first.id = first_id JOIN checkpoint AS one ON one.id = first.checkpoint_id
        JOIN answer AS second ON second.id = second_id
        JOIN checkpoint AS other ON other.id = second.checkpoint_id
        JOIN prompt ON prompt.id = first.prompt_id {_by("answer_comparison")}""",
    "anchors": """
        SELECT t, prompt.text, candidate_index, model.name
        FROM candidate JOIN prompt ON prompt.id = prompt_id
        JOIN checkpoint AS model ON model.id = candidate.checkpoint_id
        JOIN iteration ON iteration.id = candidate.iteration_id""",
    "consistency": f"""
        SELECT t, {JUDGE}, text, tau, candidates
        FROM consistency JOIN prompt ON prompt.id = prompt_id
        JOIN iteration ON iteration.id = consistency.iteration_id {_by("consistency")}""",
    "judgement comparisons": f"""
        SELECT t, {JUDGE}, prompt.text, candidate_index, first.sample, second.sample,
               judgement_comparison.status, probability_first, judgement_comparison.raw_text
        FROM judgement_comparison
        JOIN judgement AS first ON first.id = first_id JOIN judgement AS second ON second.id = second_id
        JOIN candidate ON candidate.id = first.candidate_id JOIN prompt ON prompt.id = candidate.prompt_id
        JOIN iteration ON iteration.id = judgement_comparison.iteration_id {_by("judgement_comparison")}""",
    "judgement pairs": """
        SELECT t, prompt.text, candidate_index, chosen.sample, rejected.sample, chosen_elo, rejected_elo,
               excluded
        FROM judgement_pair
        JOIN judgement AS chosen ON chosen.id = chosen_id
        JOIN judgement AS rejected ON rejected.id = rejected_id
        JOIN candidate ON candidate.id = judgement_pair.candidate_id
        JOIN prompt ON prompt.id = candidate.prompt_id
        JOIN iteration ON iteration.id = judgement_pair.iteration_id""",
    "evaluations": "SELECT checkpoint, suite, metric, value, low, high, n FROM evaluation",
}

KEYS = {
    "prompt": "iteration_id, draw, draw_index",
    "prompt_demonstration": "prompt_id, position",
    "ranked_reply": "prompt_id, position",
    "candidate": "prompt_id, candidate_index",
    "judge": "coalesce(checkpoint_id, 0), digest",
    "judgement": "candidate_id, judge_id, sample",
    "pair_decision": "iteration_id, prompt_id",
    "preference_pair": "iteration_id, prompt_id",
    "training_metric": "iteration_id, stage, attempt, step, name",
    "checkpoint": "run_id, name",
    "iteration": "run_id, t",
    "stage": "iteration_id, name",
    "gate_check": "iteration_id, gate",
    "sft_example": "iteration_id, kind, prompt_id, position",
    "reply_judgement": "reply_id, judge_id, sample",
    "answer": "checkpoint_id, prompt_id",
    "answer_comparison": "judge_id, first_id, second_id",
    "evaluation": "run_id, checkpoint, suite, metric",
    "consistency": "iteration_id, prompt_id",
    "judgement_comparison": "judge_id, first_id, second_id",
    "judgement_pair": "iteration_id, candidate_id",
}
"""By what a row is known, whatever its id."""

UNCHANGING = (
    "setting",
    "prompt",
    "prompt_demonstration",
    "ranked_reply",
    "candidate",
    "judge",
    "judgement",
    "pair_decision",
    "preference_pair",
    "training_metric",
    "event",
    "sft_example",
    "reply_judgement",
    "answer",
    "answer_comparison",
    "consistency",
    "judgement_comparison",
    "judgement_pair",
)
"""Tables whose rows never change once they are committed."""

LEFT_OVER = {
    "accepted prompts without candidates": """
        SELECT count(*) FROM prompt WHERE status = 'accepted' AND source = 'self_instruct'
        AND id NOT IN (SELECT prompt_id FROM candidate)""",
    "candidates without judgements": """
        SELECT count(*) FROM candidate WHERE status IN ('ok', 'truncated') AND finish_reason <> 'imported'
        AND id NOT IN (SELECT candidate_id FROM judgement)""",
    "prompts without a decision": """
        SELECT count(*) FROM prompt WHERE status = 'accepted' AND source = 'self_instruct'
        AND id NOT IN (SELECT prompt_id FROM pair_decision)""",
    "written prompts without demonstrations": """
        SELECT count(*) FROM prompt WHERE source = 'self_instruct'
        AND id NOT IN (SELECT prompt_id FROM prompt_demonstration)""",
    "candidates that are counted wrongly": """
        SELECT count(*) FROM (
            SELECT iteration_id, status, count(*), sum(token_count) FROM candidate
            WHERE iteration_id IS NOT NULL AND checkpoint_id IS NULL GROUP BY 1, 2
            EXCEPT SELECT iteration_id, status, candidates, tokens FROM candidate_tally
        ) AS wrong""",
    "judgements that are counted wrongly": """
        SELECT count(*) FROM (
            SELECT iteration_id, judge_id, judgement.status, count(*), sum(judgement.token_count)
            FROM judgement JOIN candidate ON candidate.id = candidate_id
            WHERE candidate.checkpoint_id IS NULL GROUP BY 1, 2, 3
            EXCEPT
            SELECT iteration_id, judge_id, status, sum(judgements), sum(tokens)
            FROM judgement_tally GROUP BY 1, 2, 3
        ) AS wrong""",
    # The last model is measured in an iteration that is not worked on.
    "iterations that are not done": "SELECT count(*) FROM iteration WHERE status NOT IN ('done', 'pending')",
    "stages that are not done": "SELECT count(*) FROM stage WHERE status <> 'done'",
    "leases that are held": "SELECT count(*) FROM lease WHERE released_at IS NULL",
    "requests that nobody took": "SELECT count(*) FROM control_request WHERE handled_at IS NULL",
}


def content(engine: Engine) -> Content:
    """All that was made, sorted, with values that both databases give alike."""
    with engine.connect() as connection:
        return {name: _sorted(connection, sql) for name, sql in CONTENT.items()}


def committed(engine: Engine) -> dict[str, set[Row]]:
    """Every row that never changes, as it is; nothing while there is no schema."""
    with engine.connect() as connection:
        there = set(inspect(connection).get_table_names())
        return {
            table: {tuple(map(str, row)) for row in connection.execute(text(f"SELECT * FROM {table}"))}
            for table in UNCHANGING
            if table in there
        }


def duplicates(engine: Engine) -> int:
    """Rows that are there already under another id."""
    surplus = "SELECT coalesce(sum(n - 1), 0) FROM (SELECT count(*) AS n FROM {} GROUP BY {}) AS groups"
    written = {"prompt": "prompt WHERE source = 'self_instruct'"}
    seeds = ("prompt WHERE source = 'seed'", "run_id, text")
    with engine.connect() as connection:
        queries = [surplus.format(written.get(table, table), key) for table, key in KEYS.items()]
        return sum(int(_number(connection, sql)) for sql in [*queries, surplus.format(*seeds)])


def left_over(engine: Engine) -> dict[str, int]:
    """What nobody will finish, by name; empty when there is none."""
    with engine.connect() as connection:
        found = {name: _number(connection, sql) for name, sql in LEFT_OVER.items()}
        if engine.dialect.name == "sqlite":
            found["broken references"] = len(connection.exec_driver_sql("PRAGMA foreign_key_check").all())
            [[verdict]] = connection.exec_driver_sql("PRAGMA integrity_check").all()
            found["damage"] = int(verdict != "ok")
    return {name: count for name, count in found.items() if count}


def counts(found: Content) -> Mapping[str, int]:
    """How many rows of each kind."""
    return {name: len(rows) for name, rows in found.items()}


def missing(wanted: Content, found: Content) -> list[str]:
    """Rows that only the first has, for people; rows that only the second has are missing the other way."""
    return [
        f"{name}: {row} × {count}"
        for name, rows in wanted.items()
        for row, count in (Counter(map(tuple, rows)) - Counter(map(tuple, found[name]))).items()
    ]


def _sorted(connection: Connection, sql: str) -> list[Row]:
    rows = [tuple(map(_plain, row)) for row in connection.execute(text(sql))]
    return sorted(rows, key=repr)


def _plain(value: Any) -> Any:
    """SQLite has no booleans; sums of floats may differ in their last bits."""
    if isinstance(value, bool):
        return int(value)
    return round(value, 9) if isinstance(value, float) else value


def _number(connection: Connection, sql: str) -> int:
    return int(connection.execute(text(sql)).scalar_one() or 0)
