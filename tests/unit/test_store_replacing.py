"""A checkpoint that was lost keeps its row and all that refers to it, on both databases."""

import pytest
from sqlalchemy import text

from selfreward.store import Store
from selfreward.store.replacing import files_are_back, move_iteration, present_name, replace_checkpoint
from selfreward.types import CheckpointKind, StageName, Status
from tests.conftest import Filled


def test_it_is_renamed_and_another_takes_its_name(filled: Filled) -> None:
    runs, run = filled.store.runs, filled.run.id
    lost = runs.add_checkpoint(run, 2, CheckpointKind.DPO, "models/M_2", "old", filled.checkpoint.id)
    database, parent = filled.store.database, filled.checkpoint.id
    name = replace_checkpoint(database, lost, digest="new", parent_id=parent, remains="models/M_2.damaged-1")
    assert name == "M_2_lost"
    before, after = runs.checkpoint_by_id(lost.id), runs.checkpoint(run, 2)
    assert after is not None and after.id != lost.id
    assert (after.name, after.digest, after.path, after.kind) == ("M_2", "new", "models/M_2", lost.kind)
    assert (before.name, before.digest, before.path) == ("M_2_lost", "old", "models/M_2.damaged-1")
    assert before.removed and not after.removed
    again = replace_checkpoint(database, after, digest="newer", parent_id=parent, remains="x")
    assert again == "M_2_lost_2"
    assert [row.name for row in runs.checkpoints(run) if row.version == 2] == [
        "M_2_lost",
        "M_2_lost_2",
        "M_2",
    ]


def test_an_iteration_is_told_once_with_what_stands_for_the_lost_one(filled: Filled) -> None:
    store = filled.store
    trained = store.runs.finish_iteration(filled.iteration, CheckpointKind.DPO, "models/M_2", "old")
    replace_checkpoint(store.database, trained, digest="new", parent_id=None, remains="models/M_2.damaged-1")
    with store.database.read() as connection:
        rows = connection.execute(text("SELECT t, trained FROM iteration_summary")).all()
    assert [tuple(row) for row in rows] == [(1, "M_2")]


@pytest.mark.parametrize(
    ("name", "present"),
    [
        ("M_3", "M_3"),
        ("M_0_ift", "M_0_ift"),
        ("M_3_lost", "M_3"),
        ("M_3_lost_12", "M_3"),
        ("M_0_ift_lost", "M_0_ift"),
    ],
)
def test_a_lost_one_is_looked_for_under_the_name_it_had(name: str, present: str) -> None:
    assert present_name(name) == present


def test_an_iteration_goes_on_with_another_and_keeps_what_is_judged(filled: Filled) -> None:
    store, iteration = filled.store, filled.iteration
    filled.candidates(filled.prompt("Name a fruit."), ["Apple", "Stone"])
    filled.judgements(1, [4.0])
    store.runs.finish_stage(filled.stage(StageName.SELF_INSTRUCT).id, "done")
    store.runs.finish_stage(filled.stage(StageName.COMPARE).id, "done")
    other = store.runs.add_checkpoint(filled.run.id, 2, CheckpointKind.DPO, "models/x", "new")
    move_iteration(store.database, iteration.id, other.id, (StageName.COMPARE, StageName.EVALUATE))
    found = store.runs.iteration(filled.run.id, iteration.t)
    assert found is not None and found.checkpoint_id == other.id
    stages = {stage.name: (stage.status, stage.cursor) for stage in store.runs.stages(iteration.id)}
    assert stages[StageName.JUDGE] == (Status.RUNNING, 0), "another judge begins at the first candidate"
    assert stages[StageName.SELF_INSTRUCT][0] is Status.DONE
    assert stages[StageName.SAMPLE][1] > 0
    assert stages[StageName.COMPARE] == (Status.PENDING, 0), "it was the other one that was measured"
    assert StageName.EVALUATE not in stages


def test_judging_that_is_done_stays_done(filled: Filled) -> None:
    store = filled.store
    stage = filled.stage(StageName.JUDGE)
    store.runs.finish_stage(stage.id, "done")
    move_iteration(store.database, filled.iteration.id, filled.checkpoint.id, ())
    assert filled.stage(StageName.JUDGE).status is Status.DONE


def test_files_that_were_removed_are_back(store: Store) -> None:
    run = store.runs.ensure("main")
    lost = store.runs.add_checkpoint(run.id, 1, CheckpointKind.BASE, "models/M_1", "d")
    replace_checkpoint(store.database, lost, digest="e", parent_id=None, remains="models/M_1")
    assert store.runs.checkpoint_by_id(lost.id).removed
    files_are_back(store.database, lost.id)
    assert not store.runs.checkpoint_by_id(lost.id).removed
