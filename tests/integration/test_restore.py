"""A model that is damaged or gone is made again from what is stored, and never used as it is."""

import json
import os
import shutil
import signal
import sqlite3
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from selfreward.training.checkpoint import adoptable, verify, write_manifest
from selfreward.training.origin import of_source
from tests.integration.conftest import MakeRun
from tests.integration.daemon_driver import Run

CANDIDATES, JUDGEMENTS = 24, 72
LATENCY_S = 0.3
OTHER_TRAINING = """UPDATE setting SET body = json_set(body, '$.train.beta', 0.2)
                    WHERE hash = (SELECT setting_hash FROM iteration WHERE t = 1)"""
"""Gives M_2 other weights when it is trained again."""


def sql(run: Run, statement: str) -> None:
    with closing(sqlite3.connect(run.directory / "selfreward.db")) as connection, connection:
        connection.execute(statement)


def weights(run: Run, name: str) -> Path:
    return run.directory / "models" / name / "model.safetensors"


def change_a_byte(run: Run, name: str) -> None:
    """Of the same size: only its sum tells."""
    path = weights(run, name)
    data = bytearray(path.read_bytes())
    data[-1] ^= 1
    path.unlink()  # it may be a link to the source
    path.write_bytes(data)


def cut_short(run: Run, name: str) -> None:
    path = weights(run, name)
    path.write_bytes(path.read_bytes()[:-10])


def lose_the_manifest(run: Run, name: str) -> None:
    (run.directory / "models" / name / "manifest.json").unlink()


def take_away(run: Run, name: str) -> None:
    shutil.rmtree(run.directory / "models" / name)


def keep_the_database(run: Run) -> None:
    shutil.copy(run.directory / "selfreward.db", run.directory / "kept.db")


def put_back_the_database(run: Run) -> None:
    """As it was; the models are as they are now."""
    for path in run.directory.glob("selfreward.db*"):
        path.unlink()
    (run.directory / "kept.db").rename(run.directory / "selfreward.db")


def start(run: Run, *arguments: str, **environ: str) -> str:
    """Run to the end of iteration 2; returns what was told."""
    done = run.command("start", "--iterations", "2", *arguments, **environ)
    assert done.returncode == 0, done.stderr
    run.wait_until_nobody_is_left()
    return done.stderr


def checkpoints(run: Run) -> dict[str, str]:
    return dict(run.rows("SELECT name, digest FROM checkpoint ORDER BY id"))


def events(run: Run, kind: str) -> list[dict[str, Any]]:
    rows = run.rows(f"SELECT message, data FROM event WHERE kind = '{kind}' ORDER BY id")
    return [{"message": message, **json.loads(data)} for message, data in rows]


def models(run: Run) -> list[str]:
    return sorted(path.name for path in (run.directory / "models").iterdir())


@pytest.fixture(scope="module")
def half_way(tmp_path_factory: pytest.TempPathFactory, tiny_model: Path, converted_model: Path) -> Run:
    """Killed while it judges in iteration 2. To be copied."""
    run = Run(tmp_path_factory.mktemp("half_way") / "run", tiny_model, LATENCY_S)
    shutil.copytree(converted_model, run.directory / "models" / "M_1")
    done = run.command("start")
    assert done.returncode == 0, done.stderr
    daemon = run.start("--iterations", "2")
    judged = (
        "SELECT count(*) FROM judgement JOIN candidate ON candidate.id = candidate_id WHERE iteration_id = 2"
    )
    run.wait_for(lambda: run.number(judged) >= 4, "judgements of iteration 2")
    os.kill(daemon.pid, signal.SIGKILL)
    daemon.wait()
    run.wait_until_nobody_is_left()
    assert run.number(judged) < JUDGEMENTS
    return run


@pytest.fixture
def run(half_way: Run, make_run: MakeRun) -> Run:
    """A copy of it, with an engine that answers at once."""
    copy = make_run(converted=False)
    at_once = copy.settings.read_text()
    shutil.copytree(half_way.directory, copy.directory, dirs_exist_ok=True)
    copy.settings.write_text(at_once)
    return copy


def assert_complete(run: Run) -> None:
    """Both iterations are done, once and only once, and every model that counts is what was recorded."""
    assert run.rows("SELECT t, status FROM iteration ORDER BY t") == [(1, "done"), (2, "done")]
    assert run.number("SELECT count(*) FROM stage WHERE status != 'done'") == 0
    assert run.number("SELECT count(*) FROM pragma_foreign_key_check") == 0
    for t in (1, 2):
        judge = f"(SELECT judge_id FROM iteration WHERE t = {t})"
        made = f"FROM candidate WHERE iteration_id = (SELECT id FROM iteration WHERE t = {t})"
        assert run.number(f"SELECT count(*) {made}") == CANDIDATES
        judged = (
            f"SELECT count(*) FROM judgement WHERE judge_id = {judge} AND candidate_id IN (SELECT id {made})"
        )
        assert run.number(judged) == JUDGEMENTS
    for path, digest in run.rows("SELECT path, digest FROM checkpoint WHERE removed_at IS NULL"):
        assert verify(run.directory / path, deep=True) == []
        assert read_manifest_digest(run.directory / path) == digest


def generated(run: Run) -> list[tuple[Any, ...]]:
    tables = ("prompt", "candidate", "judgement")
    return [row for table in tables for row in run.rows(f"SELECT '{table}', * FROM {table} ORDER BY id")]


@pytest.mark.parametrize(
    ("damage", "told"),
    [
        (change_a_byte, "model.safetensors has other content than was written"),
        (cut_short, "bytes instead of"),
        (lose_the_manifest, "manifest.json is missing or damaged"),
        (take_away, "it is not there"),
    ],
)
def test_a_damaged_model_is_trained_again_to_the_same_byte_and_the_run_goes_on(
    run: Run, damage: Callable[[Run, str], None], told: str
) -> None:
    before, rows = checkpoints(run), generated(run)
    damage(run, "M_2")
    log = start(run)
    assert told in log and "M_2 is made again from M_1" in log
    assert_complete(run)
    after = checkpoints(run)
    assert {name: after[name] for name in before} == before and sorted(after) == ["M_1", "M_2", "M_3"]
    [damaged], [restored] = events(run, "checkpoint_damaged"), events(run, "checkpoint_restored")
    assert told in damaged["problems"][0] and damaged["checkpoint"] == "M_2"
    assert restored["same"] is True and restored["digest"] == before["M_2"]
    assert set(rows) <= set(generated(run)), "nothing that was stored is lost"
    aside = [] if damage is take_away else ["M_2.damaged-1"]
    assert models(run) == ["M_1", "M_2", *aside, "M_3"]
    assert run.rows("SELECT DISTINCT attempt FROM training_metric WHERE iteration_id = 1") == [(1,), (2,)]
    again = start(run)
    assert "not intact" not in again, "it is done once"


def test_where_it_comes_out_differently_it_takes_the_place_and_judges_anew(run: Run) -> None:
    before, rows = checkpoints(run), generated(run)
    sql(run, OTHER_TRAINING)
    change_a_byte(run, "M_2")
    log = start(run)
    assert "the old one is now M_2_lost" in log
    assert_complete(run)
    after = checkpoints(run)
    assert sorted(after) == ["M_1", "M_2", "M_2_lost", "M_3"]
    assert after["M_2_lost"] == before["M_2"] != after["M_2"]
    assert run.rows("SELECT path FROM checkpoint WHERE name = 'M_2_lost'") == [("models/M_2.damaged-1",)]
    line = """SELECT child.name, parent.name FROM checkpoint AS child
              JOIN checkpoint AS parent ON parent.id = child.parent_id ORDER BY child.name"""
    assert run.rows(line) == [("M_2", "M_1"), ("M_2_lost", "M_1"), ("M_3", "M_2")]
    judges = """SELECT checkpoint.name, count(*) FROM judgement JOIN judge ON judge.id = judge_id
                JOIN checkpoint ON checkpoint.id = judge.checkpoint_id GROUP BY checkpoint.name"""
    judged = dict(run.rows(judges))
    assert judged["M_2"] == JUDGEMENTS and 4 <= judged["M_2_lost"] < JUDGEMENTS
    assert set(rows) <= set(generated(run)), "what the old one wrote, answered and judged stays"
    used = "SELECT name FROM checkpoint JOIN iteration ON iteration.checkpoint_id = checkpoint.id WHERE t = 2"
    assert run.rows(used) == [("M_2",)]


def test_a_training_that_was_to_make_it_again_and_died_is_no_obstacle(run: Run) -> None:
    sql(run, OTHER_TRAINING)
    change_a_byte(run, "M_2")
    died = run.command("start", "--iterations", "2", SELFREWARD_CRASH_AT="train:step:1")
    assert died.returncode != 0 and "SIGKILL" in died.stderr
    run.wait_until_nobody_is_left()
    assert run.rows("SELECT status FROM iteration ORDER BY t") == [("done",), ("running",)]
    start(run)
    assert_complete(run)
    assert [name for name in models(run) if "damaged" in name] == ["M_2.damaged-1"]


def test_one_that_was_made_again_but_not_recorded_is_taken_as_it_is(run: Run) -> None:
    sql(run, OTHER_TRAINING)
    keep_the_database(run)
    change_a_byte(run, "M_2")
    start(run)
    made = checkpoints(run)["M_2"]
    put_back_the_database(run)
    log = start(run)
    assert "M_2 was finished before" in log
    assert checkpoints(run)["M_2"] == made
    assert [name for name in models(run) if "damaged" in name] == ["M_2.damaged-1"]


def test_what_the_next_one_is_made_from_is_made_again_first(run: Run) -> None:
    """M_1 was removed to save space, M_2 is gone."""
    before = checkpoints(run)
    take_away(run, "M_1")
    sql(run, "UPDATE checkpoint SET removed_at = '2026-01-01 00:00:00' WHERE name = 'M_1'")
    take_away(run, "M_2")
    log = start(run)
    assert "removed to save space" in log
    assert [(event["checkpoint"], event["same"]) for event in events(run, "checkpoint_restored")] == [
        ("M_1", True),
        ("M_2", True),
    ]
    assert_complete(run)
    after = checkpoints(run)
    assert {name: after[name] for name in before} == before
    assert run.number("SELECT count(*) FROM checkpoint WHERE removed_at IS NOT NULL") == 0


def test_a_first_model_that_cannot_be_had_again_is_told_with_what_to_do(run: Run, tiny_model: Path) -> None:
    source = run.directory / "source"
    shutil.copytree(tiny_model, source)
    (source / "config.json").write_text((source / "config.json").read_text() + "\n")
    sql(run, f"UPDATE setting SET body = json_set(body, '$.model', '{source}')")
    run.settings.write_text(run.settings.read_text().replace(f'"{tiny_model}"', f'"{source}"'))
    change_a_byte(run, "M_1")
    change_a_byte(run, "M_2")
    rows = generated(run)
    for told in ("gives another one by now", "cannot be prepared again"):
        done = run.command("start", "--iterations", "2")
        assert done.returncode == 2, done.stderr
        assert told in done.stderr and "M_1" in done.stderr and "Put an intact copy" in done.stderr
        assert "Traceback" not in done.stderr
        run.wait_until_nobody_is_left()
        shutil.rmtree(source, ignore_errors=True)
    assert models(run) == ["M_1.damaged-1", "M_2.damaged-1"], "what is left is kept"
    assert generated(run) == rows
    # The user puts a copy back, and the rest follows.
    shutil.copytree(run.directory / "models" / "M_1.damaged-1", run.directory / "models" / "M_1")
    change_a_byte(run, "M_1")
    start(run)
    assert_complete(run)


def test_what_an_earlier_start_prepared_from_another_source_is_not_taken(
    make_run: MakeRun, converted_model: Path
) -> None:
    run = make_run()
    (run.directory / "models" / "M_1" / "config.json").write_text("{}")
    write_manifest(run.directory / "models" / "M_1", [of_source("elsewhere")])
    done = run.command("start", "--set", "train.min_pairs=100")
    assert "preparing M_1" in done.stderr and "too few to train on" in done.stderr
    assert adoptable(run.directory / "models" / "M_1") is not None
    assert checkpoints(run) == {"M_1": read_manifest_digest(converted_model)}


def read_manifest_digest(directory: Path) -> str:
    return str(json.loads((directory / "manifest.json").read_text())["digest"])


# ---- forks share what they start from


def fork(run: Run) -> None:
    done = run.command("fork", "--from-iteration", "2", "--name", "side")
    assert done.returncode == 0, done.stderr


def used_in(run: Run, name: str) -> list[tuple[Any, ...]]:
    return run.rows(
        f"""SELECT checkpoint.name, checkpoint.digest, iteration.status FROM iteration
            JOIN run ON run.id = iteration.run_id AND run.name = '{name}'
            JOIN checkpoint ON checkpoint.id = iteration.checkpoint_id WHERE iteration.t = 2"""
    )


def test_a_fork_makes_what_it_starts_from_again_for_both(run: Run) -> None:
    before = checkpoints(run)["M_2"]
    fork(run)
    sql(run, OTHER_TRAINING)
    change_a_byte(run, "M_2")
    start(run, "--run", "side")
    [(name, digest, status)] = used_in(run, "side")
    assert (name, status) == ("M_2", "done") and digest != before
    assert used_in(run, "main") == [("M_2_lost", before, "running")]
    start(run)
    assert used_in(run, "main") == [("M_2", digest, "done")]
    assert models(run) == ["M_1", "M_2", "M_2.damaged-1", "M_3"]
    assert [path.name for path in (run.directory / "forks" / "side" / "models").iterdir()] == ["M_3"]


def test_a_fork_leaves_it_alone_while_the_run_that_made_it_is_at_work(run: Run) -> None:
    fork(run)
    run.settings.write_text(run.settings.read_text().replace("latency = 0.0", "latency = 2.0"))
    daemon = run.start("--iterations", "2")
    begun = "SELECT count(*) FROM engine_session WHERE iteration_id = 2 AND ready_at IS NOT NULL"
    ready = run.number(begun)
    run.wait_for(lambda: run.number(begun) > ready, "the other daemon's engine")
    change_a_byte(run, "M_2")
    done = run.command("start", "--run", "side", "--iterations", "2")
    assert done.returncode == 2 and "whose daemon is at work" in done.stderr, done.stderr
    assert models(run) == ["M_1", "M_2"]
    daemon.send_signal(signal.SIGTERM)
    assert daemon.wait(30) == 0
