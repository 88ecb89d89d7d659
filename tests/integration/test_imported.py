"""Runs that train on imported preferences: half of all, or nothing else."""

import json

from tests.integration.conftest import MakeRun
from tests.integration.daemon_driver import Run

TRAINED = "SELECT count(*) FROM preference_pair WHERE excluded IS NULL AND origin"
OTHERS = 40


def prepared(run: Run, share: float, others: int = OTHERS) -> Run:
    """With a file of preferences imported, and the share in the settings."""
    run.settings.write_text(run.settings.read_text() + f"[pair]\nimported_share = {share}\n")
    records = ({"prompt": f"Question {n}?", "chosen": "Well.", "rejected": f"No {n}."} for n in range(others))
    (run.directory / "hh.jsonl").write_text("".join(f"{json.dumps(record)}\n" for record in records))
    done = run.command("import", "preferences", str(run.directory / "hh.jsonl"), "--name", "hh")
    assert done.returncode == 0, done.stderr
    return run


def test_half_of_the_pairs_are_imported_and_the_next_half_is_another(make_run: MakeRun) -> None:
    run = prepared(make_run(), 0.5)
    done = run.command("start", "--iterations", "2")
    assert done.returncode == 0, done.stderr
    own, imported = run.number(f"{TRAINED} = 'ai'"), run.number(f"{TRAINED} = 'hh'")
    assert own == imported > 2
    assert run.number("SELECT count(DISTINCT prompt_id) FROM preference_pair WHERE origin = 'hh'") == imported
    assert "imported pairs (hh" in str(run.rows("SELECT detail FROM stage WHERE name = 'pair'"))
    newest = "iteration_id = (SELECT max(iteration_id) FROM preference_pair)"
    pairs = run.number(f"SELECT count(*) FROM preference_pair WHERE {newest}")
    steps = run.number(f"SELECT max(step) FROM training_metric WHERE {newest}")
    assert steps == -(-pairs // 2), "a step for two pairs"
    assert run.command("verify").returncode == 0


def test_with_a_share_of_one_nothing_else_is_trained_on(make_run: MakeRun) -> None:
    run = prepared(make_run(), 1.0, others=7)
    done = run.command("start")
    assert done.returncode == 0, done.stderr
    assert run.number(f"{TRAINED} = 'hh'") == 7 and run.number(f"{TRAINED} = 'ai'") == 0
    left = run.number("SELECT count(*) FROM preference_pair WHERE excluded = 'imported_share'")
    assert left == run.number("SELECT count(*) FROM pair_decision WHERE outcome = 'surplus'") > 0
    assert run.number("SELECT count(*) FROM training_metric WHERE name = 'loss'") == 4
    verified = run.command("verify")
    assert verified.returncode == 0, verified.stdout + verified.stderr
    exported = run.command("export", "pairs", "--all", str(run.directory / "pairs.jsonl"))
    assert exported.returncode == 0 and "wrote 7 pairs" in exported.stdout, exported.stderr


def test_a_share_of_nothing_is_refused_before_anything_starts(make_run: MakeRun) -> None:
    run = make_run()
    refused = run.command("start", "--set", "pair.imported_share=0.2")
    assert refused.returncode == 2 and "selfreward import preferences" in refused.stderr
    assert run.count("iteration") == 0 and run.count("engine_session") == 0
