"""CREAM, anchored pairs and meta-judging together, on the fake engine and the fake trainer."""

import json
from pathlib import Path

import pytest

from selfreward.crash import VARIABLE
from tests.integration.conftest import MakeRun
from tests.integration.daemon_driver import Run

METHODS = {
    "judge.meta.enabled": "true",
    "judge.meta.last_iteration": "1",
    "pair.rule": "anchored",
    "train.objective": "cream",
    "iterations": "2",
}
SETS = [part for key, value in METHODS.items() for part in ("--set", f"{key}={value}")]
PROMPTS, CANDIDATES = 6, 4


@pytest.fixture
def done(make_run: MakeRun) -> Run:
    """Two iterations, the second of which was killed while M_1 judged M_2's answers."""
    run = make_run()
    killed = run.command("start", *SETS, **{VARIABLE: "judge_previous:stored:2"})
    assert killed.returncode == -9, killed.stderr
    assert 0 < run.number(BEFORE) < PROMPTS * CANDIDATES * 3
    finished = run.command("start", *SETS)
    assert finished.returncode == 0, finished.stderr
    return run


BEFORE = """SELECT count(*) FROM judgement JOIN judge ON judge.id = judgement.judge_id
    JOIN candidate ON candidate.id = candidate_id JOIN iteration ON iteration.id = candidate.iteration_id
    WHERE judge.checkpoint_id <> iteration.checkpoint_id"""


def test_the_three_methods_in_one_run(done: Run) -> None:
    _consistency_is_the_label_of_every_pair(done)
    _rejected_ones_are_the_first_models(done)
    _judgements_teach_judging_while_they_are_wanted(done)
    _is_shown(done)
    verified = done.command("verify")
    assert verified.returncode == 0, verified.stdout
    _forks_take_over_what_is_theirs(done)


def _consistency_is_the_label_of_every_pair(run: Run) -> None:
    assert run.rows("SELECT detail FROM stage WHERE name = 'judge_previous' AND iteration_id = 1") == [
        ("no model came before M_1: C = 1",)
    ]
    rows = run.rows("SELECT iteration_id, tau, candidates FROM consistency")
    assert len(rows) == PROMPTS and {iteration for iteration, _, _ in rows} == {2}
    assert all(count <= CANDIDATES for _, _, count in rows)
    taus = [tau for _, tau, _ in rows if tau is not None]
    assert taus and all(-1 <= tau <= 1 for tau in taus)
    label = (sum(taus) / len(taus) + 1) / 2
    assert {pair["soft_label"] for pair in _trained_on(run, 1) if pair["pair_id"] > 0} == {1.0}
    [found] = {pair["soft_label"] for pair in _trained_on(run, 2)}
    assert found == pytest.approx(label)
    # Killed and resumed: each of M_2's candidates was judged three times by M_1, and by M_2.
    doubles = "SELECT count(*) FROM judgement GROUP BY candidate_id, judge_id HAVING count(*) <> 3"
    assert run.rows(doubles) == [] and run.number(BEFORE) > 0


def _rejected_ones_are_the_first_models(run: Run) -> None:
    anchors = """SELECT candidate.iteration_id, checkpoint.name, count(*) FROM candidate
                 JOIN checkpoint ON checkpoint.id = checkpoint_id GROUP BY 1, 2"""
    assert run.rows(anchors) == [(2, "M_1", PROMPTS)], "M_1 is its own anchor: it has none"
    sides = """SELECT t, rejected.checkpoint_id IS NOT NULL, chosen.checkpoint_id FROM preference_pair
               JOIN candidate AS rejected ON rejected.id = rejected_id
               JOIN candidate AS chosen ON chosen.id = chosen_id
               JOIN iteration ON iteration.id = preference_pair.iteration_id"""
    assert set(run.rows(sides)) == {(1, 0, None), (2, 1, None)}
    assert run.number("SELECT count(*) FROM preference_pair WHERE chosen_score <= rejected_score") == 0


def _judgements_teach_judging_while_they_are_wanted(run: Run) -> None:
    rows = run.rows("SELECT iteration_id, count(*) FROM judgement_comparison GROUP BY 1")
    assert [iteration for iteration, _ in rows] == [1], "switched off after iteration 1"
    alone = """SELECT count(*) FROM judgement_comparison AS one WHERE NOT EXISTS (SELECT 1
               FROM judgement_comparison AS two WHERE two.first_id = one.second_id
               AND two.second_id = one.first_id AND two.judge_id = one.judge_id)"""
    assert run.number(alone) == 0, "both orders of each"
    pairs = run.rows("SELECT id, chosen_elo > rejected_elo FROM judgement_pair")
    assert pairs and all(better for _, better in pairs)
    taught = [pair for pair in _trained_on(run, 1) if pair["pair_id"] < 0]
    assert sorted(-pair["pair_id"] for pair in taught) == sorted(key for key, _ in pairs)
    assert all("Score: " in pair["chosen"] and "<response>" in pair["prompt"] for pair in taught)


def _is_shown(run: Run) -> None:
    status = json.loads(run.command("status", "--json").stdout)
    stages = {stage["name"]: stage for stage in status["stages"]}
    assert stages["judge_previous"]["done"] == stages["judge"]["done"]
    assert (stages["anchor"]["done"], stages["judge_anchor"]["done"]) == (PROMPTS, 3 * PROMPTS)
    assert "meta_judge" not in stages and stages["anchor"]["unit"] == "answers"
    assert "C = " in stages["judge_previous"]["detail"]


def _forks_take_over_what_is_theirs(run: Run) -> None:
    before = run.count("judgement"), run.count("candidate")
    arguments = ("fork", "--from-iteration", "2", "--name", "again", "--reuse", "judgements")
    forked = run.command(*arguments, "--set", "pair.rule=anchored", "--set", "train.objective=cream")
    assert forked.returncode == 0, forked.stderr
    again = run.command("start", "--run", "again", "--iterations", "2")
    assert again.returncode == 0, again.stderr
    assert (run.count("judgement"), run.count("candidate")) == before, "all of it is there already"
    sessions = "SELECT count(*) FROM engine_session WHERE iteration_id = (SELECT max(id) FROM iteration)"
    assert run.number(sessions) == 0, "and no engine was needed"
    same = "SELECT iteration_id, prompt_id, tau FROM consistency WHERE iteration_id = {}"
    fork = run.number("SELECT max(id) FROM iteration")
    assert [row[1:] for row in run.rows(same.format(fork))] == [row[1:] for row in run.rows(same.format(2))]


def _trained_on(run: Run, t: int) -> list[dict[str, object]]:
    """The rows that the trainer of iteration t was given."""
    [path] = Path(run.directory, "jobs", f"M_{t + 1}").glob("*/pairs.jsonl")
    return [json.loads(line) for line in path.read_text().splitlines()]
