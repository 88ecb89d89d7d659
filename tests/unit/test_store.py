"""The store on both databases: rows survive replays, work queries page and use an index, fences hold."""

from dataclasses import replace

import pytest
from sqlalchemy import Select, func, insert, select, text
from sqlalchemy.exc import IntegrityError

from selfreward.config import Settings
from selfreward.errors import StoreError
from selfreward.store import Store
from selfreward.store.candidates import short_of_judgements
from selfreward.store.prompts import short_of_candidates
from selfreward.store.schema import Candidate, Judgement, Prompt
from selfreward.types import (
    ControlAction,
    MetricPoint,
    PairDecision,
    PairOutcome,
    PreferencePair,
    Seed,
    StageName,
    Status,
)
from tests.conftest import Filled


def count(store: Store, table: type) -> int:
    with store.database.read() as connection:
        return connection.execute(select(func.count()).select_from(table)).scalar_one()


def test_seeds_are_stored_once(filled: Filled) -> None:
    seeds = [Seed(instruction="Name a colour.", answer="Blue."), Seed(instruction="Name a fish.")]
    filled.store.prompts.add_seeds(filled.run.id, seeds)
    filled.store.prompts.add_seeds(filled.run.id, [*seeds, seeds[0]])
    assert [row.text for row in filled.store.prompts.seeds(filled.run.id)] == [
        "Name a colour.",
        "Name a fish.",
    ]


def test_a_replay_adds_nothing(filled: Filled) -> None:
    prompt = filled.prompt("Write a line about rain.")
    for _ in range(2):
        filled.candidates(prompt, ["one", "two"])
        filled.judgements(1, [3.0, None, 4.0])
    assert count(filled.store, Candidate) == 2
    assert count(filled.store, Judgement) == 3


def test_missing_candidates_are_named_by_index(filled: Filled) -> None:
    first, second = filled.prompt("First prompt here."), filled.prompt("Second prompt here.", draw=2)
    filled.prompt("Rejected prompt.", draw=3, accepted=False)
    filled.candidates(first, ["only the second answer"], first=1)
    filled.candidates(second, list("abcd"))
    short = filled.store.prompts.short_of_candidates(filled.iteration.id, 4, 0, 10)
    assert [(row.id, row.missing) for row in short] == [(first, (0, 2, 3))]


def test_missing_judgements_are_this_judges_own(filled: Filled) -> None:
    prompt = filled.prompt("Write a line about rain.")
    filled.candidates(prompt, ["one", "two"])
    filled.judgements(1, [3.0, 2.0])
    other = filled.store.candidates.judge(filled.checkpoint.id, "rubric", "t.jinja", "1" * 64, {})
    assert other != filled.judge
    find = filled.store.candidates.short_of_judgements
    mine = find(filled.iteration.id, filled.judge, 3, 0, 10)
    assert [(row.id, row.missing) for row in mine] == [(1, (2,)), (2, (0, 1, 2))]
    assert [row.missing for row in find(filled.iteration.id, other, 1, 0, 10)] == [(0,), (0,)]
    assert [row.id for row in find(filled.iteration.id, filled.judge, 3, 1, 10)] == [2]


def test_same_judge_is_one_row(filled: Filled) -> None:
    again = filled.store.candidates.judge(
        filled.checkpoint.id, "rubric", "t.jinja", "0" * 64, {"guided": False}
    )
    assert again == filled.judge


def test_cursor_only_moves_on(filled: Filled) -> None:
    prompts = [filled.prompt(f"Prompt number {number} here.", draw=number) for number in (1, 2, 3)]
    filled.candidates(prompts[2], ["x"])
    filled.candidates(prompts[0], ["x"])
    assert filled.stage(StageName.SAMPLE).cursor == prompts[2]


@pytest.mark.parametrize(
    ("score", "status"), [(7.0, "read"), (-1.0, "read"), (None, "read"), (3.0, "unreadable")]
)
def test_the_schema_refuses_scores_that_cannot_be(filled: Filled, score: float | None, status: str) -> None:
    filled.candidates(filled.prompt("Write a line about rain."), ["one"])
    values = {
        "candidate_id": 1, "judge_id": filled.judge, "sample": 0, "raw_text": "", "status": status,
        "score": score, "token_count": 0, "finish_reason": "stop", "created_at": filled.run.created_at,
    }  # fmt: skip
    with pytest.raises(IntegrityError), filled.store.database.write() as connection:
        connection.execute(insert(Judgement).values(**values))


def test_a_failed_write_leaves_nothing(filled: Filled) -> None:
    before = count(filled.store, Prompt)
    with pytest.raises(RuntimeError), filled.store.database.write() as connection:
        connection.execute(text("DELETE FROM prompt"))
        raise RuntimeError
    assert count(filled.store, Prompt) == before


def test_text_is_cleaned_at_the_gate(filled: Filled) -> None:
    key = filled.prompt("NUL \x00 and a lone \ud800 surrogate\r\nnext line")
    row = filled.store.prompts.short_of_candidates(filled.iteration.id, 1, key - 1, 1)[0]
    assert row.text == "NUL �0000 and a lone �D800 surrogate\r\nnext line"


def test_iteration_and_checkpoint_close_together(filled: Filled) -> None:
    filled.stage(StageName.TRAIN)
    trained = filled.store.runs.finish_iteration(filled.iteration, filled.checkpoint.kind, "models/M_2", "d2")
    assert (trained.version, trained.name, trained.parent_id) == (2, "M_2", filled.checkpoint.id)
    last = filled.store.runs.latest_iteration(filled.run.id)
    assert last is not None and last.status is Status.DONE
    assert filled.store.runs.stages(filled.iteration.id)[-1].status is Status.DONE


def test_a_stage_counts_its_starts_until_it_is_done(filled: Filled) -> None:
    assert [filled.stage(StageName.TRAIN).attempts for _ in range(3)] == [1, 2, 3]
    stage = filled.stage(StageName.TRAIN)
    filled.store.runs.finish_stage(stage.id, "fine")
    assert filled.stage(StageName.TRAIN) == replace(stage, status=Status.DONE, detail="fine")


def test_settings_are_stored_once_by_hash(filled: Filled) -> None:
    again = filled.store.runs.open_iteration(filled.run.id, 1, filled.checkpoint.id, Settings())
    assert again.setting_hash == filled.iteration.setting_hash == Settings().digest()


def test_pairs_are_read_back_with_their_texts(filled: Filled) -> None:
    prompt = filled.prompt("Which is better?")
    filled.candidates(prompt, ["good", "bad"])
    filled.judgements(1, [5.0, None, 4.0])
    filled.judgements(2, [1.0])
    [scored] = filled.store.pairs.undecided(filled.iteration.id, filled.judge, 0, 10)
    assert [candidate.scores for candidate in scored.candidates] == [(5.0, 4.0), (1.0,)]
    pair = PreferencePair(prompt_id=prompt, chosen_id=1, rejected_id=2, chosen_score=4.5, rejected_score=1.0)
    decision = PairDecision(prompt_id=prompt, outcome=PairOutcome.PAIRED, pairs=(pair,))
    stage = filled.stage(StageName.PAIR)
    for _ in range(2):
        filled.store.pairs.decide(filled.iteration.id, filled.judge, stage.id, [decision], prompt)
    [training] = filled.store.pairs.training_pairs(filled.iteration.id)
    assert (training.prompt, training.chosen, training.rejected) == ("Which is better?", "good", "bad")
    filled.store.pairs.exclude(filled.iteration.id, [training.pair_id])
    assert list(filled.store.pairs.training_pairs(filled.iteration.id)) == []
    assert filled.store.pairs.outcomes(filled.iteration.id) == {PairOutcome.PAIR_TOO_LONG: 1}


def test_training_pairs_page_over_many(filled: Filled) -> None:
    stage = filled.stage(StageName.PAIR)
    for number in range(1, 8):
        prompt = filled.prompt(f"Prompt number {number} here.", draw=number)
        filled.candidates(prompt, [f"good {number}", f"bad {number}"])
        pair = PreferencePair(
            prompt_id=prompt,
            chosen_id=2 * number - 1,
            rejected_id=2 * number,
            chosen_score=2,
            rejected_score=1,
        )
        decision = PairDecision(prompt_id=prompt, outcome=PairOutcome.PAIRED, pairs=(pair,))
        filled.store.pairs.decide(filled.iteration.id, filled.judge, stage.id, [decision], prompt)
    found = [pair.chosen for pair in filled.store.pairs.training_pairs(filled.iteration.id, page=3)]
    assert found == [f"good {number}" for number in range(1, 8)]


def test_item_failures_are_counted(filled: Filled) -> None:
    stage = filled.stage(StageName.SAMPLE)
    record = filled.store.candidates.record_failure
    assert [record(stage.id, 7, "boom"), record(stage.id, 7, "boom"), record(stage.id, 8, "x")] == [1, 2, 1]


def test_requests_are_taken_once(filled: Filled) -> None:
    request = filled.store.journal.ask(filled.run.id, ControlAction.PAUSE)
    assert not filled.store.journal.handled(request)
    assert [row.action for row in filled.store.journal.take_requests(filled.run.id)] == [ControlAction.PAUSE]
    assert filled.store.journal.take_requests(filled.run.id) == []
    assert filled.store.journal.handled(request)


def test_events_come_back_in_order(filled: Filled) -> None:
    for number in range(5):
        filled.store.journal.event(filled.run.id, "kind", f"event {number}", number=number)
    events = filled.store.journal.events(filled.run.id, limit=3)
    assert [event.data["number"] for event in events] == [2, 3, 4]
    assert all(event.at.tzinfo is not None for event in events)


def test_metrics_of_a_second_attempt_stand_beside_the_first(filled: Filled) -> None:
    for attempt in (1, 2, 2):
        points = [MetricPoint(step=1, name="loss", value=0.7 / attempt)]
        filled.store.journal.add_metrics(filled.iteration.id, StageName.TRAIN, attempt, points)
    with filled.store.database.read() as connection:
        assert connection.execute(text("SELECT loss FROM training_curve")).scalars().all() == [0.35]
        assert connection.execute(text("SELECT count(*) FROM training_metric")).scalar_one() == 2


def test_summary_view_counts(filled: Filled) -> None:
    prompt = filled.prompt("Which is better?")
    filled.prompt("Rejected.", draw=2, accepted=False)
    filled.candidates(prompt, ["good", "bad"])
    filled.judgements(1, [5.0, None])
    with filled.store.database.read() as connection:
        row = connection.execute(text("SELECT * FROM iteration_summary")).mappings().one()
    assert (row["t"], row["prompts"], row["rejected_prompts"], row["candidates"]) == (1, 1, 1, 2)
    assert (row["judgements"], row["readable"], row["mean_score"], row["pairs"]) == (2, 1, 5.0, 0)


# --- plans ----------------------------------------------------------------------------------------


def plan(store: Store, query: Select) -> str:  # type: ignore[type-arg]
    sql = query.compile(store.database.engine, compile_kwargs={"literal_binds": True})
    with store.database.read() as connection:
        if store.database.is_sqlite:
            rows = connection.exec_driver_sql(f"EXPLAIN QUERY PLAN {sql}").all()
            return "\n".join(row[-1] for row in rows)
        connection.exec_driver_sql("SET LOCAL enable_seqscan = off")
        return "\n".join(connection.exec_driver_sql(f"EXPLAIN {sql}").scalars())


@pytest.mark.parametrize(
    ("query", "index", "lookup"),
    [
        (short_of_candidates(1, 4, 0, 64), "ix_prompt_work", "uq_candidate_prompt_id_candidate_index"),
        (
            short_of_judgements(1, 1, 3, 0, 64),
            "ix_candidate_work",
            "uq_judgement_candidate_id_judge_id_sample",
        ),
    ],
    ids=["candidates", "judgements"],
)
def test_work_queries_use_an_index(filled: Filled, query: Select, index: str, lookup: str) -> None:  # type: ignore[type-arg]
    shown = plan(filled.store, query)
    if filled.store.database.is_sqlite:
        lookup = lookup if lookup in shown else f"sqlite_autoindex_{lookup.split('_')[1]}"
        assert "TEMP B-TREE" not in shown, "sorted by key as it comes"
    assert index in shown and lookup in shown, shown
    assert "SCAN" not in shown and "Seq Scan" not in shown, shown


def test_an_unreachable_database_is_explained(tmp_path) -> None:  # type: ignore[no-untyped-def]
    store = Store("sqlite:///missing/selfreward.db", tmp_path)
    with pytest.raises(StoreError, match="cannot be used"):
        store.runs.ensure("main")
