"""`selfreward import preferences`: what was stored and what was left out; the same again adds nothing."""

import json
from pathlib import Path
from typing import Any

import pytest

from tests.commands import selfreward

TEXTS = {"prompt": "Name a tree.", "chosen": "Oak.", "rejected": "Fish."}


@pytest.fixture
def directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The current directory, with a run's settings."""
    monkeypatch.chdir(tmp_path)
    assert selfreward("init", "--preset", "demo").returncode == 0
    return tmp_path


def write(path: Path, *records: Any) -> None:
    path.write_text("".join(f"{json.dumps(record)}\n" for record in records))


def rows(sql: str) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = json.loads(selfreward("query", "--json", sql).stdout)
    return found


def test_it_tells_what_is_new_and_what_was_left_out(directory: Path) -> None:
    write(directory / "mine.jsonl", TEXTS, TEXTS, TEXTS | {"chosen": "Fish."}, TEXTS | {"chosen": "Elm."})
    done = selfreward("import", "preferences", "mine.jsonl")
    assert done.returncode == 0, done.stderr
    assert [line.split() for line in done.stdout.splitlines() if line] == [
        ["run", "demo:", "3", "preferences", "read,", "2", "new"],
        ["origin", "preferences", "new", "left", "out"],
        ["mine.jsonl", "3", "2", "1"],
        ["origin", "left", "out", "times"],
        ["mine.jsonl", "same_text", "1"],
    ]
    again = json.loads(selfreward("import", "preferences", "mine.jsonl", "--json").stdout)
    assert again["files"] == [{"origin": "mine.jsonl", "read": 3, "new": 0, "left_out": {"same_text": 1}}]


def test_names_formats_and_limits_can_be_given(directory: Path) -> None:
    write(directory / "mine.jsonl", *(TEXTS | {"prompt": f"{n}?"} for n in range(9)))
    done = selfreward("import", "preferences", "mine.jsonl", "--name", "people", "--limit", "4")
    assert done.returncode == 0, done.stderr
    assert rows("select origin, count(*) as n from imported_preference group by origin") == [
        {"origin": "people", "n": 4}
    ]
    for wrong in (("--name", "ai"), ("--format", "csv"), ("--format", "hh"), ("--limit", "0")):
        refused = selfreward("import", "preferences", "mine.jsonl", *wrong)
        assert refused.returncode == 2 and "Traceback" not in refused.stderr, wrong
    assert "mine.jsonl line 1" in selfreward("import", "preferences", "mine.jsonl", "--format", "hh").stderr


def test_a_broken_line_is_named_and_mending_it_is_enough(directory: Path) -> None:
    file = directory / "cut.jsonl"
    write(file, *(TEXTS | {"prompt": f"{n}?"} for n in range(5)))
    whole = file.read_text()
    file.write_text(whole + '{"prompt": "5?", "cho')
    done = selfreward("import", "preferences", "cut.jsonl")
    assert done.returncode == 2 and "cut.jsonl line 6" in done.stderr
    write(file, *map(json.loads, whole.splitlines()), TEXTS | {"prompt": "5?"})
    mended = json.loads(selfreward("import", "preferences", "cut.jsonl", "--json").stdout)
    assert (mended["files"][0]["read"], mended["files"][0]["new"]) == (6, 1)


def test_an_export_comes_back_as_it_was(done_run: Path, directory: Path) -> None:
    export = directory / "pairs.jsonl"
    assert selfreward("export", "pairs", "--all", str(export), "--dir", str(done_run)).returncode == 0
    assert selfreward("import", "preferences", str(export)).returncode == 0
    exported = [json.loads(line) for line in export.read_text().splitlines()]
    found = rows(
        "select prompt.text as prompt, c.text as chosen, r.text as rejected,"
        " p.chosen_score, p.rejected_score, p.soft_label from imported_preference p"
        " join prompt on prompt.id = p.prompt_id"
        " join candidate c on c.id = p.chosen_id join candidate r on r.id = p.rejected_id order by p.id"
    )
    assert len(found) == len(exported) > 10
    for stored, written in zip(found, exported, strict=True):
        if "\x1b" in written["prompt"][0]["content"]:
            continue  # put into the database past the gate that marks what it cannot hold
        texts = {name: written[name][0]["content"] for name in ("prompt", "chosen", "rejected")}
        numbers = {name: written[name] for name in ("chosen_score", "rejected_score", "soft_label")}
        assert stored == texts | numbers
