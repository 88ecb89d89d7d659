"""Importing seeds and looking at them: all or nothing, counted by reason, hostile text only shown."""

import json
from pathlib import Path

import pytest

from tests.commands import selfreward

REPLIES = [
    {"text": "A fox is a small wild dog.", "rank": 0, "score": 5, "justification": "Right and short."},
    {"text": "No idea \u202ehsilgne", "rank": 1, "score": 1, "justification": "Nothing is said."},
]
RECORDS = [
    {"prompt": "What is a fox?", "replies": REPLIES, "split": "held_out"},
    {"prompt": "What is a den?", "replies": REPLIES, "split": "train"},
    {"instruction": "Name three trees.", "answer": "Oak, ash, elm."},
    {"instruction": "name  three trees."},
]


@pytest.fixture
def directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The current directory, with a run's settings and a file of seeds."""
    monkeypatch.chdir(tmp_path)
    assert selfreward("init", "--preset", "demo").returncode == 0
    write(tmp_path / "seeds.jsonl", [json.dumps(record) for record in RECORDS])
    return tmp_path


def write(path: Path, lines: list[str]) -> None:
    path.write_text("".join(f"{line}\n" for line in lines))


def seed_id(like: str) -> str:
    found = selfreward("query", "--json", f"select id from prompt where text like '{like}'")
    return str(json.loads(found.stdout)[0]["id"])


def test_import_tells_what_was_stored_and_what_was_left_out(directory: Path) -> None:
    done = selfreward("seeds", "import", "seeds.jsonl")
    assert done.returncode == 0, done.stderr
    lines = [line.split() for line in done.stdout.splitlines() if line]
    assert lines == [
        ["run", "demo:", "3", "seeds", "read,", "3", "of", "them", "new"],
        ["train", "held", "out"],
        ["seeds", "2", "1"],
        ["with", "answer", "2", "1"],
        ["with", "ranked", "replies", "1", "1"],
        ["left", "out", "times"],
        ["duplicate", "1"],
    ]


def test_a_second_import_adds_nothing_and_programs_can_read_it(directory: Path) -> None:
    selfreward("seeds", "import", "seeds.jsonl")
    again = json.loads(selfreward("seeds", "import", "--json", "seeds.jsonl").stdout)
    assert (again["run"], again["read"], again["new"]) == ("demo", 3, 0)
    assert again["left_out"] == {"duplicate": 1}
    assert again["held_out"] == {"seeds": 1, "with_answer": 1, "with_ranked_replies": 1}


def test_paths_start_where_the_user_is_and_not_in_the_run(
    directory: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (directory / "below").mkdir()
    monkeypatch.chdir(directory / "below")
    assert selfreward("seeds", "import", "../seeds.jsonl", "--dir", "..").returncode == 0


@pytest.mark.parametrize("share", [0.0, 1.0])
def test_the_held_out_share_can_be_given(directory: Path, share: float) -> None:
    bare = [json.dumps({"prompt": f"Question {n}?", "replies": REPLIES}) for n in range(6)]
    write(directory / "bare.jsonl", bare)
    done = selfreward("seeds", "import", "--json", "--held-out", str(share), "bare.jsonl")
    assert json.loads(done.stdout)["held_out"]["seeds"] == 6 * share


def test_nothing_is_stored_when_a_later_file_is_broken(directory: Path) -> None:
    write(directory / "cut.jsonl", ['{"instruction": "Whole."}', '{"instruction": "Cut of'])
    done = selfreward("seeds", "import", "seeds.jsonl", "cut.jsonl")
    assert done.returncode == 2 and "cut.jsonl line 2" in done.stderr
    assert not (directory / "selfreward.db").exists()
    assert selfreward("seeds", "import", "missing.jsonl").returncode == 2
    assert selfreward("seeds", "import", "--held-out", "2", "seeds.jsonl").returncode == 2


def test_list_counts_by_file_and_split(directory: Path) -> None:
    selfreward("seeds", "import", "seeds.jsonl")
    assert selfreward("seeds", "list").stdout.split() == [
        *("origin", "split", "seeds", "with_answer", "with_ranked_replies"),
        *("seeds.jsonl", "held_out", "1", "1", "1"),
        *("seeds.jsonl", "train", "2", "2", "1"),
    ]
    [held_out, train] = json.loads(selfreward("seeds", "list", "--json").stdout)
    assert (held_out["split"], held_out["seeds"], train["with_ranked_replies"]) == ("held_out", 1, 1)


def test_show_prints_replies_in_order_with_score_and_reason(directory: Path) -> None:
    selfreward("seeds", "import", "seeds.jsonl")
    shown = selfreward("seeds", "show", seed_id("%fox%")).stdout
    places = [
        shown.index(part)
        for part in (
            "from seeds.jsonl, held out",
            "What is a fox?",
            "answer\n    A fox is a small wild dog.",
            "reply 0: rank 0, score 5",
            "Right and short.",
            "reply 1: rank 1, score 1",
            "\\x202ehsilgne",
            "Nothing is said.",
            "reply 2: rank 1, canary: reply 1 with an order to the judge",
        )
    ]
    assert places == sorted(places) and "\u202e" not in shown


def test_show_gives_programs_everything(directory: Path) -> None:
    selfreward("seeds", "import", "seeds.jsonl")
    found = json.loads(selfreward("seeds", "show", "--json", seed_id("%den%")).stdout)
    assert (found["split"], found["origin"]) == ("train", "seeds.jsonl")
    assert [(reply["rank"], reply["justification"]) for reply in found["replies"]] == [
        (0, "Right and short."),
        (1, "Nothing is said."),
    ]


def test_an_unknown_seed_is_told_with_the_way_to_the_ids(directory: Path) -> None:
    selfreward("seeds", "import", "seeds.jsonl")
    done = selfreward("seeds", "show", "99")
    assert done.returncode == 2 and "no seed 99" in done.stderr and "selfreward query" in done.stderr


def test_looking_before_anything_was_imported_names_what_helps(directory: Path) -> None:
    selfreward("db", "upgrade")
    done = selfreward("seeds", "list")
    assert done.returncode == 2 and "there is no run 'demo'" in done.stderr
