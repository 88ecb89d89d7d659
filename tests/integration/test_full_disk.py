"""A disk that is full: a small file system of our own is filled, and the daemon says so and loses nothing."""

import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from selfreward.errors import StoreError
from selfreward.store import Store
from selfreward.store.migrate import upgrade
from tests.conftest import Filled
from tests.integration.daemon_driver import Run

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
    with ballast.open("wb") as file:
        try:
            while True:
                file.write(b"\0" * 65536)
                file.flush()
        except OSError:
            pass
    with ballast.open("r+b") as file:
        file.truncate(max(0, ballast.stat().st_size - leave))
    return ballast


def test_the_store_says_it_and_keeps_every_committed_row(small_disk: Path) -> None:
    store = Store("sqlite:///selfreward.db", small_disk)
    upgrade(store.database)
    filled = Filled(store)
    first = filled.prompt("This one was committed before the disk was full.")
    ballast = fill(small_disk, leave=300_000)
    with pytest.raises(StoreError, match="no space left"):
        for number in range(2, 2000):
            filled.prompt("x" * 5000, draw=number)
    kept = len(store.prompts.written(filled.run.id))
    ballast.unlink()
    filled.prompt("And this one after it was not.", draw=5000)
    texts = [row.text for row in store.prompts.written(filled.run.id)]
    assert len(texts) == kept + 1 and texts[0].startswith("This one was committed") and first == 1
    store.close()


def test_the_daemon_stops_with_a_message_and_goes_on_when_there_is_room(
    small_disk: Path, tiny_model: Path, converted_model: Path
) -> None:
    run = Run(small_disk / "run", tiny_model)
    shutil.copytree(converted_model, run.directory / "models" / "M_1")
    assert run.command("start", "--set", "train.min_pairs=100").returncode == 1, "all but the training"
    weights = (run.directory / "models" / "M_1" / "model.safetensors").stat().st_size
    ballast = fill(small_disk, leave=weights)
    done = run.command("start")
    assert done.returncode == 1
    assert "free" in done.stderr and "Traceback" not in done.stderr
    assert [path.name for path in (run.directory / "models").iterdir()] == ["M_1"]
    ballast.unlink()
    done = run.command("start")
    assert done.returncode == 0, done.stderr
    assert run.number("SELECT count(*) FROM checkpoint") == 2
