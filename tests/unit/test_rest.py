"""Why a daemon rests, what it notes meanwhile, and how much it asks of an engine that has failed."""

import asyncio
import errno
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from selfreward.config import EngineSettings, SftSettings, TrainSettings
from selfreward.errors import DiskFull, LeaseLost, StoreError, StoreUnavailable, TrainingError
from selfreward.rest import Notes, Rest, has_room, reason_to_rest
from selfreward.stages.load import Load
from selfreward.stages.trainer import halved
from selfreward.training.jobs import DpoJob, SftJob


@pytest.mark.parametrize(
    ("error", "reason"),
    [
        (StoreUnavailable("locked"), "database"),
        (DiskFull("full"), "disk"),
        (TrainingError("no room", kind="no_space"), "disk"),
        (OSError(errno.ENOSPC, "No space left on device"), "disk"),
        (OSError(errno.EACCES, "Permission denied"), None),
        (TrainingError("not a number", kind="non_finite"), None),
        (StoreError("at another revision"), None),
        (LeaseLost("taken"), None),
    ],
)
def test_only_what_can_pass_is_rested_for(error: Exception, reason: str | None) -> None:
    assert reason_to_rest(error) == reason


def test_the_stages_drain_while_there_is_any_reason() -> None:
    async def scenario() -> None:
        rest = Rest()
        rest.because("pause")
        rest.because("disk", "0 GiB free\nFree some.")
        assert str(rest) == "disk, pause: 0 GiB free" and not rest.asked_to_stop
        rest.no_longer("pause", "gate")
        assert rest.stop.is_set()
        rest.no_longer("disk")
        assert not rest.stop.is_set() and not rest.reasons
        rest.because("stop")
        assert rest.asked_to_stop and rest.stop.is_set()

    asyncio.run(scenario())


def test_a_change_is_noticed_and_otherwise_the_patience_ends() -> None:
    async def scenario() -> None:
        rest = Rest()
        asyncio.get_running_loop().call_later(0.02, rest.because, "pause")
        async with asyncio.timeout(10):
            await rest.change(None)
            await rest.change(0.02)

    asyncio.run(scenario())


class Writable:
    """Where events go while it is there."""

    def __init__(self) -> None:
        self.here = True
        self.written: list[tuple[str, dict[str, Any]]] = []

    def write(self, kind: str, _message: str, **data: Any) -> None:
        if not self.here:
            raise StoreUnavailable("away")
        self.written.append((kind, data))


def test_notes_that_cannot_be_written_come_later_in_order_with_their_time() -> None:
    place = Writable()
    notes = Notes(place.write)
    notes.add("started", "", fence=1)
    place.here = False
    for kind in ("database", "paused"):
        notes.add(kind, "")
    assert [kind for kind, _ in place.written] == ["started"]
    place.here = True
    notes.add("resumed", "")
    assert [kind for kind, _ in place.written] == ["started", "database", "paused", "resumed"]
    assert [list(data) for _, data in place.written] == [["fence"], ["happened_at"], ["happened_at"], []]


def test_of_very_many_notes_the_newest_are_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("selfreward.rest.MOST_NOTES", 3)
    place = Writable()
    place.here = False
    notes = Notes(place.write)
    for number in range(10):
        notes.add(str(number), "")
    place.here = True
    notes.add("last", "")
    assert [kind for kind, _ in place.written] == ["8", "9", "last"]


def test_room_is_what_is_needed_and_a_little(tmp_path: Path) -> None:
    assert has_room(0, tmp_path)
    assert not has_room(2**62, tmp_path)


@given(st.integers(1, 512), st.integers(1, 512), st.integers(0, 12))
def test_half_as_much_at_once_each_time_down_to_one(batch: int, concurrency: int, halvings: int) -> None:
    settings = EngineSettings(max_num_seqs=batch, concurrency=concurrency)
    load = Load()
    for _ in range(halvings):
        load.halve()
    lighter = load.lighten(settings)
    assert lighter.max_num_seqs == max(1, batch // 2**halvings)
    assert lighter.concurrency == max(1, concurrency // 2**halvings)
    load.restore()
    assert load.lighten(settings) == settings


def job(batch_size: int, micro_batch_size: int) -> DpoJob:
    settings = TrainSettings(batch_size=batch_size, micro_batch_size=micro_batch_size)
    place = Path("x")
    return DpoJob(output=place, fence=1, model=place, pairs=place, settings=settings, work=place)


@given(st.integers(1, 64), st.integers(1, 64))
def test_a_smaller_micro_batch_divides_the_same_batch_and_ends_at_one(micro: int, times: int) -> None:
    sizes, left = [micro], halved(job(micro * times, micro))
    while left is not None:
        assert left.settings.batch_size == micro * times
        sizes.append(left.settings.micro_batch_size)
        left = halved(left)
    assert sizes[-1] == 1 and all((micro * times) % size == 0 for size in sizes)
    assert all(2 * after <= before for before, after in pairwise(sizes))


def test_a_halved_job_is_otherwise_the_same() -> None:
    before = job(16, 4)
    after = halved(before)
    assert after is not None
    assert after.model_copy(update={"settings": before.settings}) == before
    sft = SftJob(
        output=Path("x"), fence=1, model=Path("x"), examples=Path("x"), settings=SftSettings(), work=Path("x")
    )
    assert isinstance(halved(sft), SftJob)
