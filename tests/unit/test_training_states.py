"""Saved states of a training: the newest complete one is there, and nothing else."""

from pathlib import Path

import pytest

from selfreward.training.manifest import MANIFEST
from selfreward.training.states import States, collect, forget, states_of


@pytest.fixture
def states(tmp_path: Path) -> States:
    return states_of(tmp_path / "jobs" / "M_2", 7, "origin", "torch 1")


def write(states: States, step: int) -> Path:
    directory = states.unfinished / f"checkpoint-{step}"
    directory.mkdir(parents=True)
    (directory / "optimizer.pt").write_bytes(bytes([step]) * 100)
    return directory


def names(states: States) -> list[str]:
    return sorted(path.name for path in states.directory.glob("*"))


def test_there_is_none_before_one_is_kept(states: States) -> None:
    assert states.newest() is None
    write(states, 3)
    assert states.newest() is None, "it may be half-written"
    assert names(states) == []


def test_the_newer_takes_the_place_of_the_older(states: States) -> None:
    for step in (3, 12):
        kept = states.keep(write(states, step))
        assert states.newest() == kept
        assert names(states) == [f"checkpoint-{step}"]


def test_the_latest_is_that_of_the_highest_step_and_not_of_the_last_name(states: States) -> None:
    older = states.keep(write(states, 9))
    copy = older.with_name("elsewhere")
    older.rename(copy)
    states.keep(write(states, 10))
    (states.directory / "checkpoint-9").mkdir()
    assert states.newest() == states.directory / "checkpoint-10"
    assert names(states) == ["checkpoint-10"]


@pytest.mark.parametrize("spoiled", ["optimizer.pt", MANIFEST])
def test_a_damaged_one_is_passed_over_for_an_older_that_is_intact(states: States, spoiled: str) -> None:
    """Both are there when the older could not be removed any more."""
    older = states.keep(write(states, 3))
    safe = states.directory.parent / "safe"
    older.rename(safe)
    newer = states.keep(write(states, 6))
    safe.rename(older)
    data = bytearray((newer / spoiled).read_bytes())
    data[5] ^= 1
    (newer / spoiled).write_bytes(data)
    assert states.newest() == older
    assert names(states) == ["checkpoint-3"]


def test_what_is_made_from_anything_else_is_never_met(states: States, tmp_path: Path) -> None:
    states.keep(write(states, 3))
    for other in (("another origin", "torch 1"), ("origin", "torch 2")):
        assert states_of(tmp_path / "jobs" / "M_2", 8, *other).directory != states.directory
    again = states_of(tmp_path / "jobs" / "M_2", 8, "origin", "torch 1")
    assert again.newest() == states.directory / "checkpoint-3", "of an earlier owner"
    other = states_of(tmp_path / "jobs" / "M_2", 8, "another origin", "torch 1")
    assert other.newest() is None
    assert states.newest() is None, "it is of no use any more, and takes room"


def test_once_it_is_published_nothing_is_kept(states: States, tmp_path: Path) -> None:
    states.keep(write(states, 3))
    log = tmp_path / "jobs" / "M_2" / "attempt_1" / "log.txt"
    log.parent.mkdir()
    log.touch()
    forget(tmp_path / "jobs" / "M_2")
    assert [path.name for path in (tmp_path / "jobs" / "M_2").iterdir()] == ["attempt_1"]
    assert log.exists()


def test_what_other_trainings_left_is_collected(states: States, tmp_path: Path) -> None:
    """A crash between the checkpoint's row and the removal leaves states that nobody will ask for."""
    states.keep(write(states, 3))
    mine = states_of(tmp_path / "jobs" / "M_3", 7, "origin")
    kept = mine.keep(write(mine, 5))
    collect(tmp_path / "jobs", "M_3")
    assert states.newest() is None and mine.newest() == kept
    collect(tmp_path / "absent", "M_3")
