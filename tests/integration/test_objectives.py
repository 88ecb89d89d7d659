"""Each `train.objective` through the daemon, on one run's judgements: what it learns from, what is refused.

The trainer is the fake one; the presets' own tests go from seeds to the next checkpoint.
"""

import json
import re
import shutil
from pathlib import Path
from typing import Any

import pytest

from tests.integration.conftest import MakeRun
from tests.integration.daemon_driver import Run

REUSED = ("--from-iteration", "1", "--reuse", "judgements")


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory, tiny_model: Path, converted_model: Path) -> Path:
    """The run main with iteration 1 done."""
    run = Run(tmp_path_factory.mktemp("finished"), tiny_model)
    shutil.copytree(converted_model, run.directory / "models" / "M_1")
    done = run.command("start")
    assert done.returncode == 0, done.stderr
    return run.directory


@pytest.fixture
def run(make_run: MakeRun, finished: Path) -> Run:
    """A copy of it."""
    made = make_run(converted=False)
    shutil.copytree(finished, made.directory, dirs_exist_ok=True)
    return made


def fork(run: Run, name: str, *settings: str) -> None:
    given = [argument for each in settings for argument in ("--set", each)]
    made = run.command("fork", *REUSED, "--name", name, *given)
    assert made.returncode == 0, made.stderr


def start(run: Run, name: str, *arguments: str) -> str:
    done = run.command("start", "--run", name, *arguments)
    assert done.returncode == 0, done.stderr
    return done.stderr


def job(run: Run, name: str, checkpoint: str = "M_2") -> dict[str, Any]:
    path = run.directory / "forks" / name / "jobs" / checkpoint / "attempt_1" / "job.json"
    found: dict[str, Any] = json.loads(path.read_text())
    return found


def rows(path: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in Path(path).read_text().splitlines()]


def checkpoint(run: Run, name: str) -> Path:
    return run.directory / "forks" / name / "models" / "M_2"


def assert_made_again(run: Run, name: str) -> None:
    """A checkpoint that is lost is made again by what made it."""
    before = run.rows("SELECT name, kind, digest FROM checkpoint ORDER BY id")
    shutil.rmtree(checkpoint(run, name))
    told = start(run, name, "--iterations", "2")
    assert "M_2 is made again from M_1, and is the same to the byte" in told
    assert (checkpoint(run, name) / "model.safetensors").is_file()
    assert run.rows("SELECT name, kind, digest FROM checkpoint ORDER BY id")[: len(before)] == before


def test_rrhf_is_given_every_scored_candidate_of_the_prompts_with_an_order(run: Run) -> None:
    fork(run, "ranked", "train.objective=rrhf")
    start(run, "ranked")
    scores: dict[int, dict[int, float]] = {}
    scored = run.rows(
        "SELECT prompt_id, c.id, avg(score) FROM candidate c JOIN judgement j ON candidate_id = c.id"
        " WHERE score IS NOT NULL AND c.status IN ('ok', 'truncated') GROUP BY c.id"
    )
    for prompt, candidate, mean in scored:
        scores.setdefault(prompt, {})[candidate] = round(mean, 6)
    groups = rows(job(run, "ranked")["groups"])
    told = {
        row["prompt_id"]: {each["candidate_id"]: each["score"] for each in row["candidates"]}
        for row in groups
    }
    assert told and told == {key: row for key, row in scores.items() if len(set(row.values())) > 1}
    assert run.rows("SELECT kind FROM checkpoint WHERE name = 'M_2' ORDER BY id") == [("dpo",), ("rrhf",)]
    assert_made_again(run, "ranked")


def test_too_few_good_answers_are_refused_with_the_score_that_works(run: Run) -> None:
    fork(run, "best", "train.objective=sft_positive", "train.min_pairs=8")
    halted = run.command("start", "--run", "best")
    assert halted.returncode != 0 and "Traceback" not in halted.stderr
    found = re.search(r"train\.positive_score = ([\d.]+) there are (\d+)", halted.stderr)
    assert found, halted.stderr
    assert "the best scores are" in halted.stderr
    settings = run.directory / "forks" / "best" / "selfreward.toml"
    score = found[1].rstrip(".")
    settings.write_text(
        re.sub(r"(?m)^positive_score = .*$", f"positive_score = {score}", settings.read_text())
    )
    start(run, "best", "--accept-changed-settings")
    attempts = sorted((run.directory / "forks/best/jobs/M_2").glob("attempt_*/examples.jsonl"))
    assert len(rows(str(attempts[-1]))) == int(found[2]) >= 8
    assert run.rows("SELECT kind FROM checkpoint WHERE path LIKE 'forks/best/%'") == [("sft_positive",)]


def test_a_reward_model_alone_leaves_the_model_as_it_is(run: Run) -> None:
    fork(run, "rewards", "train.objective=reward_model")
    start(run, "rewards")
    first, copy = run.directory / "models" / "M_1", checkpoint(run, "rewards")
    assert (copy / "model.safetensors").read_bytes() == (first / "model.safetensors").read_bytes()
    made = run.rows("SELECT name, kind, path FROM checkpoint WHERE path LIKE 'forks/%' ORDER BY name")
    assert [row[:2] for row in made] == [("M_2", "copy"), ("R_1", "reward")]
    [kinds] = run.rows("SELECT count(*) FROM stage WHERE name = 'train_reward' AND status = 'done'")
    assert kinds == (1,)
    assert_made_again(run, "rewards")


def test_every_training_may_start_from_the_first_model_with_the_pairs_of_all_iterations(run: Run) -> None:
    fork(run, "anew", "train.init_from=bootstrap", "train.data=accumulated")
    start(run, "anew", "--iterations", "2")
    last = job(run, "anew", "M_3")
    assert Path(last["model"]).name == "M_1"
    first = run.number("SELECT id FROM checkpoint WHERE name = 'M_1'")
    parents = run.rows("SELECT name, parent_id FROM checkpoint WHERE path LIKE 'forks/%' ORDER BY name")
    assert parents == [("M_2", first), ("M_3", first)]
    mine = run.rows(
        "SELECT p.id FROM preference_pair p JOIN iteration i ON i.id = p.iteration_id"
        " WHERE i.run_id = 2 ORDER BY p.id"
    )
    assert [(row["pair_id"],) for row in rows(last["pairs"])] == mine
    assert len(mine) > len(rows(job(run, "anew")["pairs"])) > 0
