"""Which checkpoints keep their files, and that rows and what is needed are never touched."""

import os
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from sqlalchemy import select, update

from selfreward.config import JudgeSettings, Settings
from selfreward.errors import BadInput
from selfreward.store import retention
from selfreward.store.replacing import replace_checkpoint
from selfreward.store.retention import Stored, dispensable, pin, retain
from selfreward.store.schema import Checkpoint, Iteration, Run
from selfreward.types import CheckpointKind, CheckpointRow, StageName, Status
from tests.conftest import Filled

NEWEST = 6


def keeping(checkpoints: int, measured: bool = False) -> Settings:
    daemon, evaluation = {"keep_checkpoints": checkpoints}, {"enabled": measured}
    return Settings.model_validate({"daemon": daemon, "evaluation": evaluation})


@pytest.fixture
def root(filled: Filled, tmp_path: Path) -> Path:
    """The directory of a run that has come to M_6; every checkpoint has a file."""
    runs, iteration = filled.store.runs, filled.iteration
    for t in range(1, NEWEST):
        checkpoint = runs.checkpoint(filled.run.id, t)
        assert checkpoint is not None
        iteration = runs.open_iteration(filled.run.id, t, checkpoint.id, filled.settings)
        path = f"models/M_{t + 1}"
        runs.finish_iteration(iteration, CheckpointKind.DPO, path, f"digest-{t + 1}")
    for checkpoint in runs.checkpoints(filled.run.id):
        (tmp_path / checkpoint.path).mkdir(parents=True)
        (tmp_path / checkpoint.path / "model.safetensors").write_text(checkpoint.name)
    return tmp_path


def row(filled: Filled, name: str) -> CheckpointRow:
    found = filled.store.runs.checkpoint_named(filled.run.id, name)
    assert found is not None
    return found


def there(root: Path) -> list[str]:
    return sorted(path.name for path in (root / "models").iterdir())


def stored(filled: Filled) -> list[str]:
    """Names of the checkpoints that are not marked as removed."""
    return [row.name for row in filled.store.runs.checkpoints(filled.run.id) if not row.removed]


def go(filled: Filled, root: Path, settings: Settings) -> retention.Retained:
    return retain(filled.store.database, root, filled.run.id, settings)


def test_nothing_is_removed_unless_asked_for(filled: Filled, root: Path) -> None:
    assert go(filled, root, keeping(0)).removed == ()
    assert len(there(root)) == NEWEST


def test_the_first_and_the_newest_keep_their_files(filled: Filled, root: Path) -> None:
    done = go(filled, root, keeping(2))
    assert (done.removed, done.stuck) == (("M_2", "M_3", "M_4"), ())
    assert there(root) == stored(filled) == ["M_1", "M_5", "M_6"]
    assert len(filled.store.runs.checkpoints(filled.run.id)) == NEWEST, "rows stay"
    assert go(filled, root, keeping(2)).removed == ()


def test_a_pinned_one_keeps_its_files_until_it_is_unpinned(filled: Filled, root: Path) -> None:
    pin(filled.store.database, row(filled, "M_3"), True)
    go(filled, root, keeping(1))
    assert there(root) == ["M_1", "M_3", "M_6"]
    pin(filled.store.database, row(filled, "M_3"), False)
    go(filled, root, keeping(1))
    assert there(root) == ["M_1", "M_6"]
    for pinned in (True, False):
        with pytest.raises(BadInput, match="the files of M_3 are gone"):
            pin(filled.store.database, row(filled, "M_3"), pinned)


def test_what_a_fork_starts_from_keeps_its_files(filled: Filled, root: Path) -> None:
    checkpoint = row(filled, "M_4")
    forked = filled.store.runs.ensure("forked")
    with filled.store.database.write() as connection:
        values = {"parent_run_id": filled.run.id, "parent_iteration": 4}
        connection.execute(update(Run).where(Run.id == forked.id).values(**values))
    iteration = filled.store.runs.open_iteration(forked.id, 4, checkpoint.id, filled.settings)
    filled.store.runs.finish_iteration(iteration, CheckpointKind.DPO, "forks/forked/models/M_5", "d")
    go(filled, root, keeping(1))
    assert there(root) == ["M_1", "M_4", "M_6"]
    assert retain(filled.store.database, root, forked.id, keeping(1)).removed == ()


def test_what_is_at_work_keeps_its_files(filled: Filled, root: Path) -> None:
    with filled.store.database.write() as connection:
        third = (Iteration.run_id == filled.run.id) & (Iteration.t == 3)
        connection.execute(update(Iteration).where(third).values(status=Status.HALTED))
    go(filled, root, keeping(1))
    assert there(root) == ["M_1", "M_3", "M_4", "M_6"], "M_4 was made in it"


def test_what_is_not_measured_yet_keeps_its_files(filled: Filled, root: Path) -> None:
    for t in (2, 3, 5):
        iteration = filled.store.runs.iteration(filled.run.id, t)
        assert iteration is not None
        stage = filled.store.runs.begin_stage(iteration.id, StageName.EVALUATE)
        if t != 3:
            filled.store.runs.finish_stage(stage.id, "done")
    go(filled, root, keeping(1, measured=True))
    assert there(root) == ["M_1", "M_3", "M_4", "M_6"]


def test_the_sft_baseline_goes_when_the_bootstrap_is_done(filled: Filled, tmp_path: Path) -> None:
    runs = filled.store.runs
    base = runs.add_checkpoint(filled.run.id, 0, CheckpointKind.BASE, "models/M_0", "d0")
    iteration = runs.open_iteration(filled.run.id, 0, base.id, filled.settings)
    runs.add_checkpoint(filled.run.id, 0, CheckpointKind.SFT, "models/M_0_ift", "d1", base.id, "M_0_ift")
    assert go(filled, tmp_path, keeping(1)).removed == ()
    runs.mark_iteration(iteration.id, Status.DONE)
    assert go(filled, tmp_path, keeping(1)).removed == ("M_0_ift",)


def test_what_a_crash_left_of_the_files_goes_with_the_next_pass(
    filled: Filled, root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def die(_: str) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(retention, "crash_point", die)
        with pytest.raises(KeyboardInterrupt):
            go(filled, root, keeping(1))
    assert stored(filled) == ["M_1", "M_6"] and len(there(root)) == NEWEST, "the rows come first"
    done = go(filled, root, keeping(0))
    assert done.removed == () and there(root) == ["M_1", "M_6"]


def test_remains_of_a_damaged_checkpoint_are_left_to_the_user(filled: Filled, root: Path) -> None:
    lost, remains = row(filled, "M_5"), root / "models" / "M_5.damaged-1"
    (root / "models" / "M_5").rename(remains)
    path = "models/M_5.damaged-1"
    replace_checkpoint(filled.store.database, lost, digest="new", parent_id=None, remains=path)
    go(filled, root, keeping(1))
    assert remains.is_dir()


def test_a_link_is_removed_and_not_what_it_leads_to(filled: Filled, root: Path, tmp_path: Path) -> None:
    elsewhere = tmp_path / "other disk"
    (root / "models" / "M_2").rename(elsewhere)
    (root / "models" / "M_2").symlink_to(elsewhere)
    go(filled, root, keeping(1))
    assert there(root) == ["M_1", "M_6"] and (elsewhere / "model.safetensors").exists()


@pytest.mark.parametrize("path", ["../outside", "{}/outside", "models/../../outside"])
def test_nothing_outside_the_root_is_removed(filled: Filled, root: Path, path: str) -> None:
    outside, path = root / "outside", path.format(root)
    outside.mkdir()
    with filled.store.database.write() as connection:
        connection.execute(update(Checkpoint).where(Checkpoint.name == "M_2").values(path=path))
    assert go(filled, root / "run", keeping(1)).stuck == (path,)
    assert outside.exists()


def test_files_that_cannot_be_removed_are_told(
    filled: Filled, root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "unlink", lambda *_, **__: (_ for _ in ()).throw(PermissionError()))
    done = go(filled, root, keeping(4))
    monkeypatch.undo()
    assert (done.removed, done.stuck) == (("M_2",), ("models/M_2",))
    assert go(filled, root, keeping(4)).stuck == () and "M_2" not in there(root)


def test_removed_rows_say_when(filled: Filled, root: Path) -> None:
    go(filled, root, keeping(4))
    with filled.store.database.read() as connection:
        query = select(Checkpoint.name).where(Checkpoint.removed_at >= filled.run.created_at)
        assert list(connection.scalars(query)) == ["M_2"]


ROWS = st.integers(0, 12).flatmap(
    lambda count: st.tuples(
        st.just([Stored(id=100 + v, version=v, name=f"M_{v}", pinned=False) for v in range(count)]),
        st.sets(st.integers(100, 112)),
        st.integers(1, 5),
    )
)


@given(ROWS)
def test_what_is_needed_first_or_newest_never_goes(case: tuple[list[Stored], set[int], int]) -> None:
    rows, needed, keep = case
    going = {row.version for row in dispensable(rows, needed, keep)}
    kept = {row.version for row in rows} - going
    assert {row.version for row in rows if row.id in needed} <= kept
    assert {row.version for row in rows[-keep:]} <= kept and {0, 1} & {row.version for row in rows} <= kept
    assert len(kept) <= len(needed) + keep + 2


def add_reward_models(filled: Filled, root: Path, *versions: int) -> None:
    for t in versions:
        path, parent = f"models/R_{t}", row(filled, f"M_{t}").id
        kind = CheckpointKind.REWARD
        filled.store.runs.add_checkpoint(filled.run.id, t, kind, path, f"r{t}", parent, f"R_{t}")
        (root / path).mkdir()


def test_the_newest_reward_model_and_the_one_that_judges_stay(filled: Filled, root: Path) -> None:
    add_reward_models(filled, root, 2, 3, 4)
    settings = keeping(1).model_copy(update={"judge": JudgeSettings(reward_model="R_2")})
    assert go(filled, root, settings).removed == ("M_2", "M_3", "M_4", "M_5", "R_3")
    assert there(root) == ["M_1", "M_6", "R_2", "R_4"]
    assert go(filled, root, keeping(1)).removed == ("R_2",), "nobody names it any more"


def test_a_reward_model_with_which_a_fork_judges_stays(filled: Filled, root: Path) -> None:
    add_reward_models(filled, root, 2, 4)
    runs = filled.store.runs
    forked = runs.ensure("fork")
    settings = Settings(judge=JudgeSettings(reward_model="R_2"))
    runs.open_iteration(forked.id, 5, row(filled, "M_5").id, settings)
    go(filled, root, keeping(1))
    assert "R_2" in there(root)
