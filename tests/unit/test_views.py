"""The views say of a small run what one computes by hand, on both databases; each column is explained."""

from datetime import UTC, datetime
from typing import Any

import pytest
from sqlalchemy import inspect, text

from selfreward.store import Store
from selfreward.store.forks import Reuse
from selfreward.store.schema import VIEWS
from selfreward.types import (
    CheckpointKind,
    EvaluationRow,
    Gate,
    GateResult,
    GateState,
    Metric,
    PairDecision,
    PairOutcome,
    PreferencePair,
    PromptStatus,
    Seed,
    StageName,
    Suite,
    WrittenPrompt,
)
from tests.conftest import Filled

Rows = list[dict[str, Any]]


def rows(store: Store, sql: str) -> Rows:
    with store.database.read() as connection:
        return [dict(row._mapping) for row in connection.execute(text(sql))]


def execute(store: Store, *statements: str) -> None:
    with store.database.write() as connection:
        for statement in statements:
            connection.execute(text(statement))


def write_prompt(filled: Filled, words: str, draw: int, demonstrations: tuple[int, ...]) -> int:
    written = WrittenPrompt(
        draw=draw,
        draw_index=0,
        text=words,
        status=PromptStatus.ACCEPTED,
        reject_reason=None,
        nearest_prompt_id=None,
        nearest_rouge_l=None,
        demonstration_ids=demonstrations,
    )
    stage = filled.stage(StageName.SELF_INSTRUCT)
    return filled.store.prompts.add_written(filled.run.id, filled.iteration.id, stage.id, written)


def decide(filled: Filled) -> None:
    chosen = PreferencePair(prompt_id=3, chosen_id=1, rejected_id=2, chosen_score=4.5, rejected_score=1.0)
    decisions = [
        PairDecision(
            prompt_id=3, outcome=PairOutcome.PAIRED, pairs=(chosen,), best_score=4.5, worst_score=1.0
        ),
        PairDecision(prompt_id=4, outcome=PairOutcome.TIE, best_score=3.0, worst_score=3.0),
    ]
    stage = filled.stage(StageName.PAIR)
    filled.store.pairs.decide(filled.iteration.id, filled.judge, stage.id, decisions, 4)


def measure(filled: Filled) -> None:
    found = {Gate.SPREAD: (GateState.OK, 1.75), Gate.LENGTH_CORRELATION: (GateState.WARN, 0.25)}
    gates = [
        GateResult(gate=gate, state=state, value=value, limit=0.5, message="Found.")
        for gate, (state, value) in found.items()
    ]
    filled.store.gates.put(filled.iteration.id, gates)
    accuracy = EvaluationRow(
        checkpoint="M_1",
        suite=Suite.JUDGE,
        metric=Metric.PAIRWISE_ACCURACY,
        value=0.75,
        low=0.5,
        high=0.875,
        n=8,
    )
    filled.store.evaluations.put(filled.run.id, [accuracy])


@pytest.fixture
def small(filled: Filled) -> Filled:
    """Two seeds; two prompts, the first of which gave a pair, and a rejected one; two judges."""
    filled.store.prompts.add_seeds(filled.run.id, [Seed(instruction=name) for name in ("Seed?", "Another?")])
    filled.candidates(write_prompt(filled, "Which is better?", 1, (2, 1)), ["a good answer", "bad one"])
    filled.candidates(write_prompt(filled, "Which is worse?", 2, ()), ["same", "so so"])
    filled.prompt("Which?", draw=3, accepted=False)
    for candidate, scores in enumerate(([5.0, 4.0, None], [1.0, 1.0], [3.0], [3.0]), start=1):
        filled.judgements(candidate, scores)
    decide(filled)
    measure(filled)
    own = filled.judge
    filled.judge = filled.store.candidates.judge(None, "rubric", "other.jinja", "1" * 64, {})
    filled.judgements(1, [0.0])
    filled.judge = own
    return filled


def test_an_iteration_is_summed_up(small: Filled) -> None:
    [row] = rows(small.store, "SELECT * FROM iteration_summary")
    started = row.pop("started_at")
    assert row.pop("mean_score") == pytest.approx(17 / 6)
    assert row == {
        "run": "main",
        "t": 1,
        "checkpoint": "M_1",
        "status": "running",
        "prompts": 2,
        "rejected_prompts": 1,
        "candidates": 4,
        "judgements": 7,
        "readable": 6,
        "pairs": 1,
        "mean_margin": 3.5,
        "steps": None,
        "trained": None,
        "finished_at": None,
    }
    assert started is not None


def test_scores_are_counted_by_tenths(small: Filled) -> None:
    small.judgements(4, [3.0, 2.55])
    found = rows(small.store, "SELECT * FROM score_histogram ORDER BY score IS NULL, score")
    assert [(row["score"], row["judgements"]) for row in found] == [
        (1.0, 2), (2.6, 1), (3.0, 2), (4.0, 1), (5.0, 1), (None, 1),
    ]  # fmt: skip
    assert {(row["run"], row["t"]) for row in found} == {("main", 1)}


def test_a_judge_is_told_in_figures(small: Filled) -> None:
    [row] = rows(small.store, "SELECT * FROM judge_health")
    variance = 61 / 6 - (17 / 6) ** 2
    assert row == {
        "run": "main",
        "t": 1,
        "checkpoint": "M_1",
        "judgements": 7,
        "readable_share": pytest.approx(6 / 7),
        "mean_score": pytest.approx(17 / 6),
        "score_sd": pytest.approx(variance**0.5),
        "commonest_score": 1.0,
        "commonest_share": pytest.approx(2 / 6),
        "tie_share": 0.5,
        "spread": 1.75,
        "length_correlation": 0.25,
        "pairwise_accuracy": 0.75,
        "accuracy_low": 0.5,
        "accuracy_high": 0.875,
        "gates_raised": 1,
    }


def test_a_judge_that_gives_one_score_or_none(filled: Filled) -> None:
    filled.candidates(filled.prompt("Which is better?"), ["good", "bad"])
    filled.judgements(1, [None, None])
    query = "SELECT readable_share, mean_score, score_sd, commonest_score, tie_share FROM judge_health"
    [row] = rows(filled.store, query)
    assert row == {
        "readable_share": 0.0,
        "mean_score": None,
        "score_sd": None,
        "commonest_score": None,
        "tie_share": None,
    }
    filled.judgements(2, [3.0, 3.0, 3.0])
    [row] = rows(filled.store, query)
    assert (row["mean_score"], row["score_sd"], row["commonest_score"]) == (3.0, 0.0, 3.0)


def test_a_forks_first_judge_has_the_figures_of_the_run_that_made_it(small: Filled) -> None:
    store = small.store
    execute(store, "UPDATE stage SET status = 'done'")
    store.forks.make(
        "fork", small.run, small.checkpoint, small.settings, shares_seeds=True, reuse=Reuse.JUDGEMENTS
    )
    [row] = rows(store, "SELECT * FROM judge_health WHERE run = 'fork'")
    assert (row["checkpoint"], row["judgements"], row["pairwise_accuracy"]) == ("M_1", 7, 0.75)
    assert (row["tie_share"], row["spread"], row["gates_raised"]) == (None, None, 0)
    assert rows(store, "SELECT * FROM throughput WHERE run = 'fork'") == []


def test_outcomes_are_counted(small: Filled) -> None:
    found = rows(small.store, "SELECT * FROM pair_outcomes ORDER BY outcome")
    assert found == [
        {"run": "main", "t": 1, "outcome": "paired", "prompts": 1},
        {"run": "main", "t": 1, "outcome": "tie", "prompts": 1},
    ]


def test_lengths_are_averaged(small: Filled) -> None:
    [row] = rows(small.store, "SELECT * FROM length_by_iteration")
    assert row == {
        "run": "main",
        "t": 1,
        "candidates": 4,
        "mean_tokens": 2.0,
        "truncated_share": 0.0,
        "empty_share": 0.0,
        "chosen_tokens": 3.0,
        "rejected_tokens": 2.0,
    }


def test_stages_are_told_with_their_speed(small: Filled) -> None:
    times = "started_at = '2025-03-04 05:06:07.25+00:00', finished_at = '2025-03-04 05:06:17.25+00:00'"
    if small.store.database.is_sqlite:
        times = times.replace("+00:00", "0000")
    execute(small.store, f"UPDATE stage SET {times} WHERE name IN ('sample', 'judge', 'pair')")
    found = {row.pop("stage"): row for row in rows(small.store, "SELECT * FROM throughput")}
    rates = ("seconds", "items_per_second", "tokens_per_second")
    assert {stage: (row["items"], row["tokens"]) for stage, row in found.items()} == {
        "self_instruct": (2, None),
        "sample": (4, 8),
        "judge": (7, 21),
        "pair": (2, None),
    }
    told = {stage: [row[name] for name in rates] for stage, row in found.items()}
    assert told == {
        "self_instruct": [None, None, None],
        "sample": [nearly(10), nearly(0.4), nearly(0.8)],
        "judge": [nearly(10), nearly(0.7), nearly(2.1)],
        "pair": [nearly(10), nearly(0.2), None],
    }


def nearly(seconds: float) -> Any:
    """SQLite's days are exact to a millisecond."""
    return pytest.approx(seconds, rel=0.001)


def test_a_pair_leads_back_to_all_it_came_from(small: Filled) -> None:
    found = rows(small.store, "SELECT * FROM lineage ORDER BY candidate_id, sample")
    steps = [(row["candidate_id"], row["role"], row["sample"], row["score"]) for row in found]
    assert steps == [
        (1, "chosen", 0, 5.0),
        (1, "chosen", 1, 4.0),
        (1, "chosen", 2, None),
        (2, "rejected", 0, 1.0),
        (2, "rejected", 1, 1.0),
    ], "the other judge has no part in the pair"
    assert found[0] == {
        "run": "main",
        "t": 1,
        "pair_id": 1,
        "prompt_id": 3,
        "prompt": "Which is better?",
        "demonstrations": "2,1",
        "candidate_id": 1,
        "candidate_index": 0,
        "role": "chosen",
        "candidate": "a good answer",
        "judgement_id": 1,
        "sample": 0,
        "score": 5.0,
        "judgement": "Score: 5.0",
        "judge_id": 1,
        "written_by": "M_1",
        "judged_by": "M_1",
        "trained": None,
    }


def test_lineage_names_the_checkpoint_that_was_trained_unless_the_pair_was_left_out(small: Filled) -> None:
    store = small.store
    store.runs.finish_iteration(small.iteration, CheckpointKind.DPO, "models/M_2", "digest-2")
    query = "SELECT DISTINCT trained FROM lineage"
    assert rows(store, query) == [{"trained": "M_2"}]
    store.pairs.exclude(small.iteration.id, [1])
    assert rows(store, query) == [{"trained": None}]


def test_lineage_shows_a_candidate_that_nobody_judged_and_who_wrote_it(small: Filled) -> None:
    small.candidates(3, ["late"], first=2)
    moment = datetime.now(UTC).isoformat(sep=" ").removesuffix("+00:00")
    small.store.runs.add_checkpoint(small.run.id, 1, CheckpointKind.BASE, "models/M_1", "d", None, "M_1_lost")
    execute(
        small.store,
        "INSERT INTO engine_session (id, iteration_id, checkpoint_id, engine, seed, started_at)"
        f" VALUES (77, 1, 2, 'fake', 1, '{moment}')",
        "UPDATE candidate SET session_id = 77 WHERE text = 'late'",
    )
    [row] = rows(small.store, "SELECT * FROM lineage WHERE role = 'other'")
    assert (row["candidate"], row["judgement_id"], row["written_by"]) == ("late", None, "M_1_lost")


def test_every_column_of_every_view_is_explained_and_there(store: Store) -> None:
    with store.database.read() as connection:
        looked_at = inspect(connection)
        there = {
            name: [column["name"] for column in looked_at.get_columns(name)]
            for name in looked_at.get_view_names()
        }
    assert there == {view.name: list(view.columns) for view in VIEWS}
    assert all(comment.endswith(".") for view in VIEWS for comment in view.columns.values())


def found_by(store: Store, word: str) -> list[int]:
    queries = {
        True: f"SELECT rowid AS id FROM prompt_search WHERE prompt_search MATCH '{word}' ORDER BY rowid",
        False: f"SELECT id FROM prompt WHERE to_tsvector('simple', text) @@ to_tsquery('simple', '{word}')",
    }
    return [row["id"] for row in rows(store, queries[store.database.is_sqlite])]


def test_prompts_are_found_by_their_words_as_they_change(filled: Filled) -> None:
    first = filled.prompt("Explain gravity to a child.")
    second = filled.prompt("Write about Gravity and tides.", draw=2)
    assert found_by(filled.store, "gravity") == [first, second]
    assert found_by(filled.store, "tides") == [second]
    execute(filled.store, f"UPDATE prompt SET text = 'Explain magnets.' WHERE id = {first}")
    assert (found_by(filled.store, "gravity"), found_by(filled.store, "magnets")) == ([second], [first])
    execute(filled.store, f"DELETE FROM prompt WHERE id = {second}")
    assert found_by(filled.store, "gravity") == []
