"""Forks through the commands: what is reused is not asked for again, and what there was stays as it was."""

import json
import shutil
import sqlite3
from collections import Counter
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from selfreward.resources import shipped_dir
from tests.integration.conftest import MakeRun
from tests.integration.daemon_driver import Run

PROMPTS, CANDIDATES, JUDGEMENTS = 6, 24, 72
MEASURED = {
    "[evaluation]\nenabled = false": "[evaluation]\nprompts = 4\nreplies = 8\n[gates]\nenabled = false"
}
UNMEASURED = ("--set", "evaluation.enabled=false")
BOOTSTRAP = """[bootstrap]
mode = "sft"
[bootstrap.sft]
type = "fake"
[gates]
enabled = false
"""
OF_RUN = "JOIN iteration ON iteration.id = iteration_id WHERE run_id ="


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory, tiny_model: Path, converted_model: Path) -> Path:
    """The run main with iteration 1 done: M_1 and M_2, both measured."""
    run = Run(tmp_path_factory.mktemp("finished"), tiny_model)
    change(run.settings, MEASURED)
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


def change(path: Path, replacements: dict[str, str]) -> None:
    text = path.read_text()
    for old, new in replacements.items():
        assert old in text
        text = text.replace(old, new)
    path.write_text(text)


def fork(run: Run, name: str, *arguments: str, t: int = 1) -> None:
    """Make a fork and run it to its end."""
    made = run.command("fork", "--from-iteration", str(t), "--name", name, *arguments)
    assert made.returncode == 0, made.stderr
    done = run.command("start", "--run", name)
    assert done.returncode == 0, done.stderr


def everything(run: Run) -> dict[str, Counter[tuple[Any, ...]]]:
    """Every row of every table; what full-text search keeps for itself aside."""
    with closing(sqlite3.connect(run.directory / "selfreward.db")) as connection:
        tables = connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'").fetchall()
        return {
            table: Counter(connection.execute(f"SELECT * FROM {table}").fetchall())
            for (table,) in tables
            if table != "sqlite_sequence" and not table.startswith("prompt_search")
        }


def assert_kept(before: dict[str, Counter[tuple[Any, ...]]], run: Run) -> None:
    """Not one row has changed or gone; others may have come."""
    after = everything(run)
    assert {table: rows - after[table] for table, rows in before.items() if rows - after[table]} == {}


def made(run: Run) -> dict[str, int]:
    tables = ("prompt", "candidate", "judgement", "engine_session", "answer", "reply_judgement")
    return {table: run.count(table) for table in tables}


def test_reused_judgements_are_trained_on_without_asking_the_engine(run: Run) -> None:
    before, counts = everything(run), made(run)
    files = {path: path.stat().st_mtime_ns for path in (run.directory / "models").rglob("*")}
    fork(run, "beta05", "--set", "train.beta=0.5", "--reuse", "judgements", *UNMEASURED)
    run.wait_until_nobody_is_left()
    assert made(run) == counts, "nothing was asked, not even an engine started"
    assert_kept(before, run)
    assert {path: path.stat().st_mtime_ns for path in (run.directory / "models").rglob("*")} == files
    pairs = "SELECT chosen_id, rejected_id FROM preference_pair WHERE iteration_id = {} ORDER BY prompt_id"
    [[mine]] = run.rows("SELECT id FROM iteration WHERE run_id = 2 AND t = 1")
    assert run.rows(pairs.format(mine)) == run.rows(pairs.format(1)) != []
    [theirs, ours] = run.rows("SELECT digest, path, parent_id FROM checkpoint WHERE name = 'M_2' ORDER BY id")
    assert ours[1:] == ("forks/beta05/models/M_2", 1) and theirs[0] != ours[0]
    assert (run.directory / ours[1] / "model.safetensors").is_file()
    job = json.loads((run.directory / "forks/beta05/jobs/M_2/attempt_1/job.json").read_text())
    assert job["settings"]["beta"] == 0.5
    [summary] = run.json("select * from iteration_summary where run = 'beta05'")
    assert (summary["t"], summary["candidates"], summary["judgements"], summary["trained"]) == (
        1,
        CANDIDATES,
        JUDGEMENTS,
        "M_2",
    )


def test_reused_candidates_are_judged_by_the_forks_judge(run: Run) -> None:
    before, counts = everything(run), made(run)
    rubric = (shipped_dir("prompts") / "judge_rubric.jinja").read_text()
    (run.directory / "kind.jinja").write_text(f"Be kind.\n{rubric}")
    fork(run, "kind", "--set", "judge.template=kind.jinja", "--reuse", "candidates", *UNMEASURED)
    assert made(run) == counts | {
        "judgement": 2 * JUDGEMENTS,
        "engine_session": counts["engine_session"] + 1,
    }
    assert_kept(before, run)
    templates = "SELECT template FROM judge WHERE type = 'rubric' AND checkpoint_id = 1 ORDER BY id"
    assert run.rows(templates) == [("judge_rubric.jinja",), ("../../kind.jinja",)]
    judged = run.json("select run, judgements, mean_score from iteration_summary order by run")
    assert [row["judgements"] for row in judged] == [JUDGEMENTS, JUDGEMENTS]
    used = f"SELECT DISTINCT preference_pair.judge_id FROM preference_pair {OF_RUN} {{}}"
    assert run.rows(used.format(1)) != run.rows(used.format(2)) != []


def test_reused_prompts_are_answered_anew(run: Run) -> None:
    before = everything(run)
    fork(run, "other", "--set", "sample.temperature=1.3", "--reuse", "prompts", *UNMEASURED)
    assert_kept(before, run)
    texts = (
        "SELECT text, status, draw, draw_index FROM prompt WHERE run_id = {} AND source <> 'seed' ORDER BY id"
    )
    assert run.rows(texts.format(1)) == run.rows(texts.format(2)) != []
    assert run.count("candidate") == 2 * CANDIDATES and run.count("judgement") == 2 * JUDGEMENTS
    [row] = run.json("select prompts, candidates, judgements from iteration_summary where run = 'other'")
    assert row == {"prompts": PROMPTS, "candidates": CANDIDATES, "judgements": JUDGEMENTS}
    [[detail]] = run.rows(f"SELECT detail FROM stage {OF_RUN} 2 AND name = 'judge'")
    assert detail.startswith(f"{JUDGEMENTS} judgements"), "by the parent's judge, but not of its candidates"


def test_without_reuse_the_iteration_begins_anew_and_is_measured_beside_its_parent(run: Run) -> None:
    before = everything(run)
    fork(run, "anew", "--set", "self_instruct.temperature=1.1")
    assert_kept(before, run)
    assert run.number("SELECT count(*) FROM prompt WHERE run_id = 2 AND status = 'accepted'") == PROMPTS
    assert run.number("SELECT count(*) FROM prompt WHERE run_id = 2 AND source = 'seed'") == 0
    reports = {}
    for name in ("main", "anew"):
        done = run.command("report", "--json", "--run", name)
        assert done.returncode == 0, done.stderr
        reports[name] = {row["name"]: row for row in json.loads(done.stdout)["checkpoints"]}
    assert list(reports["anew"]) == ["M_1", "M_2"], "M_1 is the parent's"
    assert reports["anew"]["M_1"] == reports["main"]["M_1"]
    assert reports["anew"]["M_2"]["judge"] and reports["anew"]["M_2"]["pairs"] == PROMPTS
    won = reports["anew"]["M_2"]["assistant"]["win_rate_previous"]
    assert won["n"] > 0, "compared with the parent's M_1, on the same prompts"


def test_a_fork_of_a_fork_goes_on_from_what_the_first_one_trained(run: Run) -> None:
    fork(run, "first", "--set", "train.beta=0.5", "--reuse", "judgements", *UNMEASURED)
    before = everything(run)
    again = ("--run", "first", "--reuse", "judgements", "--set", "train.beta=0.9")
    fork(run, "again", *again)
    fork(run, "second", "--run", "first", "--set", "iterations=2", t=2)
    assert_kept(before, run)
    paths = [
        row["path"]
        for row in json.loads(run.command("status", "--json", "--run", "second").stdout)["checkpoints"]
    ]
    assert paths == ["models/M_1", "forks/first/models/M_2", "forks/second/models/M_3"]
    tree = run.command("runs").stdout
    assert [line.split("  ")[0] for line in tree.splitlines()][:2] == ["main", "└── first"]
    shown = {row["name"]: row for row in json.loads(run.command("runs", "--json").stdout)}
    assert [(row["parent"], row["from_iteration"], row["newest"]) for row in shown.values()] == [
        (None, None, "M_2"),
        ("main", 1, "M_2"),
        ("first", 1, "M_2"),
        ("first", 2, "M_3"),
    ]
    assert run.rows("SELECT DISTINCT iteration_id FROM candidate ORDER BY 1")[0] == (1,)
    assert run.number("SELECT data_iteration_id FROM iteration WHERE run_id = 3 AND t = 1") == 1


def test_resume_from_an_iteration_keeps_the_old_line(run: Run) -> None:
    before = everything(run)
    done = run.command("resume", "--from-iteration", "1")
    assert done.returncode == 0 and "forked main-from-1 from M_1 of main" in done.stdout, done.stderr
    assert_kept(before, run)
    assert run.number("SELECT count(*) FROM checkpoint WHERE name = 'M_2'") == 2
    named = run.command("resume", "--from-iteration", "2", "--name", "on", "--detach")
    assert named.returncode == 0 and "started daemon" in named.stdout, named.stderr
    run.wait_for(
        lambda: run.number("SELECT count(*) FROM checkpoint WHERE path = 'forks/on/models/M_3'") == 1, "M_3"
    )
    run.wait_until_nobody_is_left()
    assert_kept(before, run)


def test_resume_starts_a_daemon_where_none_runs_and_asks_the_one_that_does(run: Run) -> None:
    change(run.settings, {"latency = 0.0": "latency = 1.0", "iterations = 1": "iterations = 2"})
    daemon = run.start("--run", "main")
    run.wait_for(
        lambda: run.number("SELECT count(*) FROM iteration WHERE status = 'running'") == 1, "a start"
    )
    assert run.command("pause").returncode == 0
    run.wait_for(lambda: run.number("SELECT count(*) FROM event WHERE kind = 'paused'") == 1, "the rest")
    # A fork has a lease of its own, and may not reuse what is not done.
    short = ("--set", "iterations=1", *UNMEASURED)
    fork(run, "beside", "--set", "train.beta=0.5", "--reuse", "judgements", *short)
    refused = run.command("fork", "--from-iteration", "2", "--name", "early", "--reuse", "judgements")
    assert refused.returncode == 2 and "not done there" in refused.stderr
    told = {row["name"]: row["running"] for row in json.loads(run.command("runs", "--json").stdout)}
    assert told == {"main": True, "beside": False}
    asked = run.command("resume")
    assert asked.returncode == 0 and "asked" in asked.stdout
    run.wait_for(lambda: run.number("SELECT count(*) FROM event WHERE kind = 'resumed'") == 1, "going on")
    assert daemon.poll() is None, "it was not disturbed"
    assert run.command("stop").returncode == 0
    assert daemon.wait(60) == 0
    change(run.settings, {"latency = 1.0": "latency = 0.0"})
    done = run.command("resume")
    assert done.returncode == 0, done.stderr
    assert run.number("SELECT count(*) FROM checkpoint WHERE path = 'models/M_3'") == 1


def test_changed_settings_are_refused_until_they_are_accepted(run: Run) -> None:
    before = everything(run)
    more = ("--iterations", "2", "--set", "train.beta=0.3", "--set", "engine.concurrency=4", *UNMEASURED)
    refused = run.command("start", *more)
    assert refused.returncode == 2, refused.stderr
    assert "train.beta: 0.1 → 0.3" in refused.stderr and "engine.concurrency" not in refused.stderr
    assert "--accept-changed-settings" in refused.stderr and "selfreward fork" in refused.stderr
    assert everything(run)["iteration"] == before["iteration"]
    done = run.command("start", *more, "--accept-changed-settings")
    assert done.returncode == 0, done.stderr
    [[data]] = run.rows("SELECT data FROM event WHERE kind = 'settings_changed'")
    assert json.loads(data) == {"changes": {"train.beta": [0.1, 0.3]}}
    measured = run.command("eval", "--checkpoint", "M_1", "--set", "train.beta=0.9")
    assert measured.returncode == 0, "measuring is not hindered"


def test_versions_are_stored_with_each_stage_and_a_change_is_told(run: Run) -> None:
    [[stored]] = run.rows("SELECT DISTINCT versions FROM stage")
    versions = json.loads(stored)
    assert {"python", "selfreward", "torch", "trl"} <= versions.keys()
    with closing(sqlite3.connect(run.directory / "selfreward.db")) as connection, connection:
        old = json.dumps(versions | {"trl": "0.1"})
        connection.execute("UPDATE stage SET versions = ?", [old])
    for _ in range(2):
        done = run.command("start", "--iterations", "2", *UNMEASURED)
        assert done.returncode == 0, done.stderr
    [[message]] = run.rows("SELECT message FROM event WHERE kind = 'versions_changed'")
    assert f"trl 0.1 → {versions['trl']}" in message


def test_the_bootstrap_is_done_again_by_a_fork_from_iteration_0(
    make_run: MakeRun, converted_model: Path
) -> None:
    run = make_run(converted=False)
    shutil.copytree(converted_model, run.directory / "models" / "M_0")
    change(run.settings, {"[engine]\n": f"{BOOTSTRAP}[engine]\n"})
    assert (done := run.command("start")).returncode == 0, done.stderr
    before = everything(run)
    fork(run, "less", "--set", "bootstrap.max_ift=3", t=0)
    assert_kept(before, run)
    line = json.loads(run.command("status", "--json", "--run", "less").stdout)["checkpoints"]
    assert [row["path"] for row in line] == [
        "models/M_0",
        "forks/less/models/M_0_ift",
        "forks/less/models/M_1",
        "forks/less/models/M_2",
    ]
    kept = f"SELECT count(*) FROM sft_example {OF_RUN} {{}} AND kind = 'ift' AND kept"
    assert run.number(kept.format(2)) == 3 < run.number(kept.format(1))


def test_a_fork_on_postgresql(run: Run, postgres_uri: str) -> None:
    shutil.copytree(run.directory / "models" / "M_1", run.directory / "kept")
    (run.directory / "selfreward.db").unlink()
    shutil.rmtree(run.directory / "models")
    (run.directory / "models").mkdir()
    (run.directory / "kept").rename(run.directory / "models" / "M_1")
    change(run.settings, {'name = "main"\n': f'name = "main"\ndatabase.url = "{postgres_uri}"\n'})
    assert (done := run.command("start", *UNMEASURED)).returncode == 0, done.stderr
    fork(run, "beta05", "--set", "train.beta=0.5", "--reuse", "judgements", *UNMEASURED)
    rows = run.json("select run, candidates, judgements, trained from iteration_summary order by run")
    assert [row["judgements"] for row in rows] == [JUDGEMENTS, JUDGEMENTS]
    paths = run.json("select path from checkpoint order by id")
    assert [row["path"] for row in paths] == ["models/M_1", "models/M_2", "forks/beta05/models/M_2"]
