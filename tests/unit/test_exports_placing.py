"""An export appears whole or not at all, and replaces nothing that is not one."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from selfreward.errors import BadInput
from selfreward.exports.placing import CARD, placed, placed_file

EXPORT_CARD = "---\ntags:\n- selfreward\n---\n"
KILLED_WHILE_WRITING = """
import os, signal, sys
from pathlib import Path
from selfreward.exports.placing import placed
with placed(Path(sys.argv[1]), force=True) as directory:
    (directory / "pairs.parquet").write_bytes(b"half")
    os.kill(os.getpid(), signal.SIGKILL)
"""


def make_export(directory: Path, text: str = "old") -> None:
    directory.mkdir()
    (directory / CARD).write_text(EXPORT_CARD)
    (directory / "pairs.jsonl").write_text(text)


def test_a_new_export_appears_with_all_its_files(tmp_path: Path) -> None:
    with placed(tmp_path / "a" / "out", force=False) as directory:
        (directory / "data").write_text("x")
        assert not (tmp_path / "a" / "out").exists()
    assert [path.name for path in (tmp_path / "a").iterdir()] == ["out"]
    assert (tmp_path / "a" / "out" / "data").read_text() == "x"


def test_an_empty_directory_may_be_filled(tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    with placed(tmp_path / "out", force=False) as directory:
        (directory / "data").write_text("x")
    assert (tmp_path / "out" / "data").exists()


def test_an_export_that_fails_leaves_nothing(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="broken"), placed(tmp_path / "out", force=False) as directory:
        (directory / "data").write_text("x")
        raise ValueError("broken")
    assert list(tmp_path.iterdir()) == []


def test_an_export_that_fails_leaves_the_one_it_was_to_replace(tmp_path: Path) -> None:
    make_export(tmp_path / "out")
    with pytest.raises(ValueError, match="broken"), placed(tmp_path / "out", force=True):
        raise ValueError("broken")
    assert (tmp_path / "out" / "pairs.jsonl").read_text() == "old"


def test_what_a_killed_export_leaves_is_hidden_and_cleared_by_the_next(tmp_path: Path) -> None:
    done = subprocess.run([sys.executable, "-c", KILLED_WHILE_WRITING, str(tmp_path / "out")], check=False)
    assert done.returncode == -signal.SIGKILL
    [left] = tmp_path.iterdir()
    assert left.name.startswith(".out.partial-") and not (tmp_path / "out").exists()
    with placed(tmp_path / "out", force=False) as directory:
        assert not left.exists()
        (directory / "data").write_text("x")
    assert [path.name for path in tmp_path.iterdir()] == ["out"]


def test_an_export_in_progress_is_not_cleared_by_another(tmp_path: Path) -> None:
    with placed(tmp_path / "out", force=False) as directory:
        running = directory.with_name(directory.name.replace(str(os.getpid()), str(os.getppid())))
        running.mkdir()
    with placed(tmp_path / "out2", force=False):
        pass
    with placed(tmp_path / "out", force=True) as directory:
        (directory / CARD).write_text(EXPORT_CARD)
    assert running.is_dir()


def test_what_is_there_is_refused_and_stays(tmp_path: Path) -> None:
    make_export(tmp_path / "out")
    with pytest.raises(BadInput, match="is there already") as caught, placed(tmp_path / "out", force=False):
        raise AssertionError("not to be reached")
    assert "--force" in caught.value.hint
    assert (tmp_path / "out" / "pairs.jsonl").read_text() == "old"


def test_force_replaces_an_export_and_all_of_it(tmp_path: Path) -> None:
    make_export(tmp_path / "out")
    with placed(tmp_path / "out", force=True) as directory:
        (directory / CARD).write_text(EXPORT_CARD)
    assert [path.name for path in (tmp_path / "out").iterdir()] == [CARD]
    assert [path.name for path in tmp_path.iterdir()] == ["out"]


@pytest.mark.parametrize("card", ["# Notes\n- selfreward\n", "---\ntags:\n- mine\n---\n- selfreward\n", None])
def test_force_never_replaces_what_is_no_export(tmp_path: Path, card: str | None) -> None:
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "thesis.tex").write_text("years of work")
    if card is not None:
        (tmp_path / "out" / CARD).write_text(card)
    with pytest.raises(BadInput, match="does not look like an export"), placed(tmp_path / "out", force=True):
        raise AssertionError("not to be reached")
    assert (tmp_path / "out" / "thesis.tex").read_text() == "years of work"


def test_a_single_file_is_replaced_only_with_force(tmp_path: Path) -> None:
    file = tmp_path / "pairs.jsonl"
    file.write_text("old")
    with pytest.raises(BadInput, match="is there already"), placed_file(file, force=False):
        raise AssertionError("not to be reached")
    with placed_file(file, force=True) as directory:
        (directory / "whatever.jsonl").write_text("new")
        assert file.read_text() == "old"
    assert file.read_text() == "new" and [path.name for path in tmp_path.iterdir()] == ["pairs.jsonl"]


def test_a_file_in_place_of_a_directory_is_never_replaced(tmp_path: Path) -> None:
    (tmp_path / "out").write_text("a file")
    with pytest.raises(BadInput, match="is a file"), placed(tmp_path / "out", force=True):
        raise AssertionError("not to be reached")
    assert (tmp_path / "out").read_text() == "a file"
