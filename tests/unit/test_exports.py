"""`selfreward export` on a run that is done: data sets, their cards, and what a user can do wrong."""

import json
import re
from pathlib import Path
from typing import Any

import pytest
import yaml

from selfreward.exports.reading import read_candidates, read_examples, read_judgements, read_pairs
from selfreward.seeds import read_seeds
from selfreward.seeds.records import EXPORTED
from selfreward.store import Store
from selfreward.store.exported import ExportedExample
from tests.commands import Done, selfreward
from tests.filled import FORK, HOSTILE

OF_EACH = 12
"""Accepted prompts of an iteration, each of which gave a pair."""


@pytest.fixture
def export(done_run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """The command, on that run, in a directory of its own."""
    monkeypatch.chdir(tmp_path)

    def run(*arguments: str) -> Done:
        return selfreward("export", *arguments, "--dir", str(done_run))

    return run


def front_matter(directory: Path) -> dict[str, Any]:
    text = (directory / "README.md").read_text(encoding="utf-8")
    found: dict[str, Any] = yaml.safe_load(text.split("---\n")[1])
    return found


@pytest.mark.parametrize(
    ("form", "file"), [("parquet", "pairs-iteration-1.parquet"), ("jsonl", "pairs-iteration-1.jsonl")]
)
def test_pairs_are_written_with_a_card_and_read_back(
    export: Any, tmp_path: Path, form: str, file: str
) -> None:
    done = export("pairs", "--iteration", "1", "--format", form, "out/")
    assert done.returncode == 0, done.stderr
    assert done.stdout == f"wrote {OF_EACH} pairs of iteration 1 to out\n"
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["README.md", file]
    rows = list(read_pairs(tmp_path / "out"))
    assert len(rows) == OF_EACH and all(row.chosen_score > row.rejected_score for row in rows)
    assert {(row.run, row.iteration, row.written_by, row.judged_by) for row in rows} == {
        ("main", 1, "M_1", "M_1")
    }
    assert any(row.prompt[0].content == HOSTILE for row in rows)


def test_both_formats_hold_the_same_rows(export: Any, tmp_path: Path) -> None:
    for kind, read in (("candidates", read_candidates), ("judgements", read_judgements)):
        export(kind, "--iteration", "2", f"{kind}.parquet")
        export(kind, "--iteration", "2", f"{kind}.jsonl")
        rows = list(read(tmp_path / f"{kind}.parquet"))
        assert rows and rows == list(read(tmp_path / f"{kind}.jsonl"))


def test_what_is_exported_is_what_is_stored(export: Any, tmp_path: Path, done_run: Path) -> None:
    assert export("candidates", "--all", "out").returncode == 0
    rows = {row.candidate_id: row for row in read_candidates(tmp_path / "out")}
    store = Store.open("sqlite:///selfreward.db", done_run)
    with store.database.read() as connection:
        stored = connection.exec_driver_sql(
            "SELECT candidate.id, candidate.text, prompt.text, avg(score), count(*) FROM candidate"
            " JOIN prompt ON prompt.id = prompt_id LEFT JOIN judgement ON candidate_id = candidate.id"
            " GROUP BY candidate.id"
        ).all()
    store.close()
    assert len(stored) == len(rows) == 2 * OF_EACH * 4
    for key, text, prompt, mean, judgements in stored:
        assert (rows[key].text, rows[key].prompt) == (text, prompt)
        assert rows[key].mean_score == pytest.approx(mean) and rows[key].judgements == judgements


def test_all_iterations_go_into_one_data_set(export: Any, tmp_path: Path) -> None:
    done = export("pairs", "--all", "out")
    assert f"wrote {2 * OF_EACH} pairs of iterations 1, 2 to out" in done.stdout
    assert [row.iteration for row in read_pairs(tmp_path / "out")] == [1] * OF_EACH + [2] * OF_EACH
    assert (tmp_path / "out" / "pairs.parquet").is_file()


def test_a_fork_exports_its_own_pairs_and_the_candidates_it_reuses(export: Any, tmp_path: Path) -> None:
    assert export("pairs", "--iteration", "1", "--run", FORK, "pairs").returncode == 0
    assert export("candidates", "--iteration", "1", "--run", FORK, "candidates").returncode == 0
    assert export("candidates", "--iteration", "1", "parents").returncode == 0
    [name] = {row.run for row in read_pairs(tmp_path / "pairs")}
    mine = [row.candidate_id for row in read_candidates(tmp_path / "candidates")]
    theirs = [row.candidate_id for row in read_candidates(tmp_path / "parents")]
    assert name == FORK and mine == theirs and len(mine) == OF_EACH * 4


def test_the_best_answers_are_those_of_the_highest_mean(export: Any, tmp_path: Path) -> None:
    assert export("sft", "--iteration", "1", "best.jsonl").returncode == 0
    assert export("candidates", "--iteration", "1", "all.jsonl").returncode == 0
    highest: dict[int, float] = {}
    for row in read_candidates(tmp_path / "all.jsonl"):
        if row.status == "ok" and row.mean_score is not None:
            highest[row.prompt_id] = max(highest.get(row.prompt_id, 0.0), row.mean_score)
    best = {row.prompt_id: row.score for row in read_examples(tmp_path / "best.jsonl")}
    assert best == pytest.approx(highest)


def test_the_least_score_keeps_the_others_out(export: Any, tmp_path: Path) -> None:
    assert export("sft", "--iteration", "1", "best.jsonl").returncode == 0
    scores = sorted(row.score or 0 for row in read_examples(tmp_path / "best.jsonl"))
    assert export("sft", "-t", "1", "--least-score", str(scores[-1]), "top.jsonl").returncode == 0
    kept = [row.score for row in read_examples(tmp_path / "top.jsonl")]
    assert kept == [score for score in scores if score == scores[-1]]


def test_exported_examples_can_be_imported_as_seeds(export: Any, tmp_path: Path) -> None:
    for name in ("best.jsonl", "best.parquet"):
        assert export("sft", "--iteration", "2", name).returncode == 0
        rows = list(read_examples(tmp_path / name))
        seeds = read_seeds([name], tmp_path).seeds
        assert [(seed.instruction, seed.answer) for seed in seeds] == [
            (row.prompt[0].content.strip(), row.completion[0].content.strip()) for row in rows
        ]


def test_the_seed_reader_knows_the_columns_of_examples() -> None:
    assert {"prompt", "completion"} | EXPORTED == set(ExportedExample.__dataclass_fields__)


def test_the_card_says_what_it_is_and_how_it_was_made(export: Any, tmp_path: Path) -> None:
    export("pairs", "--iteration", "2", "out")
    front, text = front_matter(tmp_path / "out"), (tmp_path / "out" / "README.md").read_text()
    assert front["configs"] == [
        {"config_name": "default", "data_files": [{"split": "train", "path": "pairs-iteration-2*.parquet"}]}
    ]
    assert front["size_categories"] == ["n<1K"] and {"selfreward", "dpo", "trl"} <= set(front["tags"])
    assert "prompts: 12 paired" in text and "| M_2 | dpo | M_1 |" in text
    assert "judge\\_rubric" not in text and "`judge_rubric.jinja`" in text
    assert "pairwise_accuracy" in text and "temperature = " in text
    assert "selfreward export pairs --run main --iteration 2 --format parquet DEST" in text
    assert "licence" in text.lower()


@pytest.mark.parametrize("kind", ["pairs", "candidates", "judgements", "sft"])
def test_every_column_is_described_on_the_card(export: Any, tmp_path: Path, kind: str) -> None:
    export(kind, "--iteration", "1", "--format", "jsonl", "out")
    text = (tmp_path / "out" / "README.md").read_text()
    record = json.loads((tmp_path / "out" / f"{kind}-iteration-1.jsonl").read_text().splitlines()[0])
    assert set(re.findall(r"^\| `(\w+)` \|", text, re.MULTILINE)) == set(record)


def test_no_card_names_a_place_on_this_machine(export: Any, tmp_path: Path, done_run: Path) -> None:
    export("sft", "--all", "out")
    export("model", "M_3", "model")
    for card in tmp_path.glob("*/README.md"):
        assert str(done_run.parent) not in card.read_text() and str(tmp_path) not in card.read_text()


def test_what_is_there_is_replaced_only_with_force(export: Any, tmp_path: Path) -> None:
    export("pairs", "--iteration", "1", "out")
    refused = export("pairs", "--iteration", "2", "out")
    assert refused.returncode == 2 and "is there already" in refused.stderr and "--force" in refused.stderr
    assert export("pairs", "--iteration", "2", "--force", "out").returncode == 0
    assert {row.iteration for row in read_pairs(tmp_path / "out")} == {2}


def test_a_destination_that_ends_as_a_file_is_that_file(export: Any, tmp_path: Path) -> None:
    assert export("pairs", "--iteration", "1", "sub/mine.jsonl").returncode == 0
    assert [path.name for path in (tmp_path / "sub").iterdir()] == ["mine.jsonl"]
    clash = export("pairs", "--iteration", "1", "--format", "parquet", "other.jsonl")
    assert clash.returncode == 2 and "--format parquet" in clash.stderr


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("pairs", "--iteration", "9", "out"), ["no iteration 9", "Iterations: 1, 2, 3"]),
        (("pairs", "--iteration", "3", "out"), ["has no pairs", "only its model was measured"]),
        (("sft", "--iteration", "1", "--least-score", "5", "--run", "nope", "out"), ["nope", FORK]),
        (("pairs", "out"), ["neither --iteration nor --all", "--iteration 2, or --all"]),
        (("pairs", "--iteration", "1", "--all", "out"), ["both --iteration and --all"]),
        (("pairs", "--iteration", "1", "--format", "csv", "out"), ["csv", "parquet, jsonl, hf"]),
        (("model", "M_9", "out"), ["no checkpoint 'M_9'", "M_1, M_2, M_3"]),
        (("pairs", "--all", "--push", "me/x", "out.jsonl"), ["--push needs a directory"]),
    ],
)
def test_what_cannot_be_exported_is_said_and_leaves_nothing(
    export: Any, tmp_path: Path, arguments: tuple[str, ...], said: list[str]
) -> None:
    done = export(*arguments)
    assert done.returncode == 2 and "Traceback" not in done.stderr
    assert all(part.lower() in done.stderr.lower() for part in said), done.stderr
    assert list(tmp_path.iterdir()) == []


def test_help_of_every_export_has_an_example() -> None:
    for kind in ("pairs", "candidates", "judgements", "sft", "model", "answers"):
        done = selfreward("export", kind, "--help")
        assert done.returncode == 0 and f"selfreward export {kind}" in done.stdout
