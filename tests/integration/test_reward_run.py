"""A run that trains a reward model and then lets it judge, on the fake engine and the fake trainer."""

import os
import shutil
import signal
from pathlib import Path

import pytest

from selfreward.stages.reward_judge import score_of
from selfreward.training.checkpoint import verify
from selfreward.training.reward_server import fake_reward
from selfreward.training.reward_source import require_reward_head
from tests.integration.conftest import MakeRun
from tests.integration.daemon_driver import Run

CANDIDATES = 24
JUDGED = """SELECT prompt.text, candidate.text, judgement.reward, judgement.score, judgement.status
            FROM judgement JOIN judge ON judge.id = judge_id
            JOIN candidate ON candidate.id = candidate_id JOIN prompt ON prompt.id = prompt_id
            WHERE judge.type = 'reward_model'"""


def write(run: Run, *tables: str) -> None:
    """Add tables to the settings."""
    run.settings.write_text(run.settings.read_text() + "\n".join(tables))


@pytest.fixture
def trained(make_run: MakeRun) -> Run:
    """Its iteration 1 has made R_1."""
    run = make_run()
    run.settings.write_text(
        run.settings.read_text().replace("[train]\n", '[train]\nobjective = "reward_model"\n')
    )
    done = run.command("start")
    assert done.returncode == 0, done.stderr
    return run


def test_a_reward_model_is_made_judges_is_lost_and_made_again(trained: Run) -> None:
    run, models = trained, trained.directory / "models"
    assert run.rows("SELECT name, kind, version FROM checkpoint ORDER BY name") == [
        ("M_1", "base", 1),
        ("M_2", "copy", 2),
        ("R_1", "reward", 1),
    ]
    assert run.rows("SELECT status FROM stage WHERE name = 'train_reward'") == [("done",)]
    assert verify(models / "R_1", deep=True) == [] and verify(models / "M_2", deep=True) == []
    require_reward_head(models / "R_1", "R_1")
    _is_shown_as_what_it_is(run)

    shutil.rmtree(models / "R_1")
    text = run.settings.read_text().replace("latency = 0.0", "latency = 0.05")
    run.settings.write_text(f'{text}\n[judge]\ntype = "reward_model"\nreward_model = "R_1"\n')
    daemon = run.start("--iterations", "2", "--accept-changed-settings")
    run.wait_for(lambda: len(run.rows(JUDGED)) >= 4, "rewards")
    os.kill(daemon.pid, signal.SIGKILL)
    daemon.wait()
    run.wait_until_nobody_is_left()
    assert verify(models / "R_1", deep=True) == [], "it was made again from its rows"
    done = run.command("start", "--iterations", "2")
    assert done.returncode == 0, done.stderr
    _is_judged_by_it(run)


def _is_shown_as_what_it_is(run: Run) -> None:
    refused = run.command("eval", "--checkpoint", "R_1")
    assert refused.returncode == 2 and "no checkpoint R_1 to measure" in refused.stderr
    shown = run.command("show", "checkpoint", "R_1")
    assert shown.returncode == 0 and "M_1 (main, base)" in shown.stdout, shown.stderr
    exported = run.command("export", "model", "R_1", str(run.directory / "out"))
    assert exported.returncode == 0, exported.stderr
    card = (run.directory / "out" / "README.md").read_text()
    assert "**reward model**" in card and "AutoModelForSequenceClassification" in card
    assert "pipeline_tag: text-classification" in card and "[train.reward]" in card


def _is_judged_by_it(run: Run) -> None:
    """Every candidate of iteration 2 has one reward, and a score in the same order."""
    rows = run.rows(JUDGED)
    assert len(rows) == CANDIDATES and {row[4] for row in rows} == {"read"}
    for prompt, response, reward, score, _ in rows:
        assert reward == pytest.approx(fake_reward(prompt, response))
        assert score == pytest.approx(score_of(reward))
    judges = """SELECT checkpoint.name, judge.parameters FROM judge
                JOIN checkpoint ON checkpoint.id = judge.checkpoint_id WHERE type = 'reward_model'"""
    [(name, _)] = run.rows(judges)
    assert name == "R_1"
    assert run.number("SELECT count(*) FROM checkpoint WHERE name = 'R_1'") == 1
    assert run.rows("SELECT kind FROM checkpoint WHERE name = 'M_3'") == [("copy",)]
    assert sorted(path.name for path in (run.directory / "models").iterdir()) == [
        "M_1",
        "M_2",
        "M_3",
        "R_1",
        "R_2",
    ]


def test_what_is_no_reward_model_is_refused_before_anything_is_made(
    make_run: MakeRun, tiny_model: Path
) -> None:
    run = make_run()
    settings = run.settings.read_text()
    for name, told in (("R_7", "no reward model R_7"), (str(tiny_model), "is a LlamaForCausalLM")):
        run.settings.write_text(f'{settings}\n[judge]\ntype = "reward_model"\nreward_model = "{name}"\n')
        done = run.command("start")
        assert done.returncode == 2, (done.stdout, done.stderr)
        assert told in done.stderr and "num_labels = 1" in done.stderr
        assert "Traceback" not in done.stderr
    assert run.count("prompt WHERE source = 'self_instruct'") == 0
