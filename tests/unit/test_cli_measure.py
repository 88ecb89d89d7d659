"""The commands that measure, on figures and answers that are in the database already."""

import json
from pathlib import Path

import pytest

from selfreward.store import Store
from selfreward.types import (
    CandidateStatus,
    EvaluationRow,
    Metric,
    NewCandidate,
    RankedReply,
    Seed,
    Split,
    StageName,
    Suite,
)
from tests.commands import selfreward
from tests.conftest import Filled

REPLIES = (RankedReply(text="good", rank=0), RankedReply(text="bad", rank=1))


@pytest.fixture
def filled(tmp_path: Path, sqlite_template: Path, monkeypatch: pytest.MonkeyPatch) -> Filled:
    """A run in the current directory with M_1, one held-out seed and nothing measured."""
    monkeypatch.chdir(tmp_path)
    assert selfreward("init", "--preset", "demo").returncode == 0
    settings = tmp_path / "selfreward.toml"
    settings.write_text(settings.read_text().replace('name = "demo"', 'name = "main"'))
    (tmp_path / "selfreward.db").write_bytes(sqlite_template.read_bytes())
    filled = Filled(Store("sqlite:///selfreward.db", tmp_path))
    seed = Seed(instruction="What is a fox?", answer="x", split=Split.HELD_OUT, replies=REPLIES)
    filled.store.prompts.add_seeds(filled.run.id, [seed])
    return filled


def answer(filled: Filled, text: str) -> None:
    [prompt_id] = filled.store.answers.prompts(filled.run.id, 10)
    row = NewCandidate(
        prompt_id=prompt_id,
        index=0,
        text=text,
        status=CandidateStatus.OK,
        finish_reason="stop",
        token_count=5,
        mean_logprob=-0.5,
    )
    stage = filled.stage(StageName.ANSWER_HELD_OUT)
    filled.store.answers.add(filled.checkpoint.id, stage.id, None, [row], prompt_id)


def measure(filled: Filled) -> None:
    row = EvaluationRow(
        checkpoint="M_1",
        suite=Suite.JUDGE,
        metric=Metric.READABLE_SHARE,
        value=0.96,
        low=0.9,
        high=0.99,
        n=100,
    )
    filled.store.evaluations.put(filled.run.id, [row])


def test_answers_are_exported_in_the_form_alpaca_eval_reads(filled: Filled, tmp_path: Path) -> None:
    answer(filled, "A fox is “wild”.")
    done = selfreward("export", "answers", "M_1", "out/model_outputs.json")
    assert done.returncode == 0, done.stderr
    assert json.loads((tmp_path / "out" / "model_outputs.json").read_text()) == [
        {
            "dataset": "selfreward_held_out",
            "instruction": "What is a fox?",
            "output": "A fox is “wild”.",
            "generator": "selfreward-main-M_1",
        }
    ]


def test_export_without_answers_writes_nothing(filled: Filled, tmp_path: Path) -> None:
    done = selfreward("export", "answers", "M_1", "x.json")
    assert done.returncode == 2 and "selfreward eval" in done.stderr
    assert not (tmp_path / "x.json").exists()


def test_an_unknown_checkpoint_is_told_with_the_known_ones(filled: Filled) -> None:
    done = selfreward("export", "answers", "M_9", "x.json")
    assert done.returncode == 2 and "no checkpoint 'M_9'" in done.stderr and "M_1" in done.stderr


def test_report_prints_and_writes_page_and_plots(filled: Filled, tmp_path: Path) -> None:
    measure(filled)
    done = selfreward("report")
    assert done.returncode == 0, done.stderr
    assert "96.0" in done.stdout and "[90.0–99.0]" in done.stdout
    written = {path.suffix for path in (tmp_path / "report").iterdir()}
    assert written == {".md", ".png", ".svg"} and "report.md" in done.stderr


def test_report_for_programs_writes_nothing_unless_told_where(filled: Filled, tmp_path: Path) -> None:
    measure(filled)
    done = selfreward("report", "--json")
    [checkpoint] = json.loads(done.stdout)["checkpoints"]
    assert checkpoint["judge"]["readable_share"]["value"] == 0.96
    assert not (tmp_path / "report").exists()
    assert selfreward("report", "--json", "--out", "there").returncode == 0
    assert (tmp_path / "there" / "report.md").is_file()


def test_report_before_anything_was_measured_names_what_helps(filled: Filled) -> None:
    done = selfreward("report")
    assert done.returncode == 2 and "selfreward eval" in done.stderr


def test_evaluating_a_checkpoint_that_is_not_there_names_those_that_are(filled: Filled) -> None:
    done = selfreward("eval", "--checkpoint", "M_9")
    assert done.returncode == 2 and "M_9" in done.stderr and "M_1" in done.stderr
