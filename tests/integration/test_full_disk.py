"""A disk that is full: a small file system of our own is filled, and the daemon says so and loses nothing."""

import shutil
import subprocess
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from selfreward.errors import DiskFull
from selfreward.store import Store
from selfreward.store.migrate import upgrade
from tests.conftest import Filled
from tests.integration.daemon_driver import DEADLINE_S, Run
from tests.integration.unkind import Spoken, behaving, events

SIZE_MIB = 12


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of a few MiB."""
    place = tmp_path / "small"
    place.mkdir()
    made = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", f"size={SIZE_MIB}m", "tmpfs", str(place)],
        capture_output=True,
        check=False,
    )
    if made.returncode:
        pytest.skip(f"mounting a small file system needs root: {made.stderr.decode().strip()}")
    yield place
    subprocess.run(["umount", "--lazy", str(place)], check=True)


def fill(place: Path, leave: int = 0) -> Path:
    """Take all the space but `leave` bytes."""
    ballast = place / "ballast"
    with ballast.open("wb", buffering=0) as file, suppress(OSError):
        while True:
            file.write(bytes(65536))
    with ballast.open("r+b") as file:
        file.truncate(max(0, ballast.stat().st_size - leave))
    return ballast


def test_the_store_says_it_and_keeps_every_committed_row(small_disk: Path) -> None:
    store = Store("sqlite:///selfreward.db", small_disk)
    upgrade(store.database)
    filled = Filled(store)
    first = filled.prompt("This one was committed before the disk was full.")
    ballast = fill(small_disk, leave=300_000)
    with pytest.raises(DiskFull, match="no space left"):
        for number in range(2, 2000):
            filled.prompt("x" * 5000, draw=number)
    kept = len(store.prompts.written(filled.run.id))
    ballast.unlink()
    filled.prompt("And this one after it was not.", draw=5000)
    texts = [row.text for row in store.prompts.written(filled.run.id)]
    assert len(texts) == kept + 1 and texts[0].startswith("This one was committed") and first == 1
    store.close()


@pytest.fixture
def run(small_disk: Path, tiny_model: Path, converted_model: Path) -> Iterator[Run]:
    """A run on the small file system that finds its M_1."""
    made = Run(small_disk / "run", tiny_model, latency=0.1)
    shutil.copytree(converted_model, made.directory / "models" / "M_1")
    yield made
    made.close()


def weights(run: Run) -> int:
    return (run.directory / "models" / "M_1" / "model.safetensors").stat().st_size


def goes_on_with_room(run: Run, spoken: Spoken, ballast: Path) -> None:
    """It rests, says so, keeps M_1, goes on by itself when there is room, and nothing is lost or twice."""
    spoken.until_rest("disk")
    assert spoken.process.poll() is None
    assert [path.name for path in (run.directory / "models").iterdir()] == ["M_1"]
    ballast.unlink()
    spoken.until(lambda line: line["event"] == "going on")
    assert spoken.process.wait(DEADLINE_S) == 0
    counts = [run.count("candidate"), run.count("judgement"), run.count("checkpoint")]
    assert counts == [24, 72, 2]
    assert [event["reasons"] for event in events(run, "paused")] == [["disk"]]
    run.wait_until_nobody_is_left()


def test_without_room_for_a_checkpoint_no_iteration_begins(run: Run, small_disk: Path) -> None:
    assert run.command("start", "--set", "train.min_pairs=100").returncode == 1, "all but the training"
    ballast = fill(small_disk, leave=int(1.5 * weights(run)))
    spoken = Spoken(run.start("--accept-changed-settings"))
    told = spoken.until(lambda line: line["event"].startswith("resting: "))["event"]
    assert "free" in told and "are needed" in told
    assert run.count("training_metric") == 0
    goes_on_with_room(run, spoken, ballast)


def test_a_disk_that_is_full_in_the_middle_is_rested_for(run: Run, small_disk: Path) -> None:
    spoken = Spoken(run.start())
    run.wait_for(lambda: run.count("candidate") >= 4, "candidates")
    goes_on_with_room(run, spoken, fill(small_disk))


def test_a_checkpoint_that_finds_no_room_is_made_again(run: Run, small_disk: Path) -> None:
    behaving(run, train="fake_args = { step_seconds = 0.5 }")
    spoken = Spoken(run.start())
    run.wait_for(lambda: run.count("training_metric") > 0, "training")
    goes_on_with_room(run, spoken, fill(small_disk, leave=weights(run) // 2))
    assert run.number("SELECT attempts FROM stage WHERE name = 'train'") == 2
