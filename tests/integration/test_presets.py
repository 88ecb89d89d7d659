"""Each method's preset, end to end: one iteration, with scripted engine and trainer for the real ones.

`make methods` runs the same presets on a real model.
"""

import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from selfreward.config import load_preset, method_names, render_settings
from tests.integration.conftest import MakeRun
from tests.integration.daemon_driver import Run

PROMPTS = 4
FLOW = "direct-rlaif"
"""Has a test of its own, which goes on from there."""
FAKE = {"type": "fake"}
SCORED = {"scale": "points", "template": "judge_rubric.jinja", "max_tokens": 200}
"""The scripted engine's tokens are characters: it has one for a digit, and none for a Yes."""
COMPARISONS = "SELECT count(*) FROM candidate_comparison"
MADE = {
    "rlaif": [COMPARISONS, "SELECT count(*) FROM preference_pair WHERE soft_label IS NOT NULL"],
    "rlhf": ["SELECT count(*) FROM preference_pair WHERE origin <> 'ai'"],
    "slic-hf": [COMPARISONS],
    "rrhf": ["SELECT count(*) FROM judgement WHERE score IS NOT NULL"],
    "positive-only": ["SELECT count(*) FROM judgement WHERE score >= 1.6"],
    "meta-rewarding": ["SELECT count(*) FROM judgement_comparison", "SELECT count(*) FROM judgement_pair"],
    "cream": ["SELECT count(*) FROM consistency"],
    "irpo": ["SELECT count(*) FROM preference_pair"],
}
"""What of each method is in the database after an iteration."""
KINDS = {
    "rlaif": "rl",
    "rlhf": "rl",
    "slic-hf": "slic",
    "rrhf": "rrhf",
    "positive-only": "sft_positive",
    "meta-rewarding": "dpo",
    "cream": "cream",
    "irpo": "dpo",
}
WITH_REWARD_MODEL = ("rlaif", "rlhf")


def prepared(make_run: MakeRun, preset: str, tiny: Path, converted: Path) -> Run:
    """A run of the preset as it is on the demo model, on the tiny one."""
    run = make_run(converted=False)
    values: dict[str, Any] = load_preset(preset, on_demo=True)
    values["model"] = str(tiny)
    values["engine"] |= FAKE
    values["self_instruct"] |= {"target": PROMPTS}
    values["judge"] |= SCORED
    values["daemon"] = {"commit_seconds": 0.1}
    values["train"] |= FAKE
    values["train"]["reward"] |= FAKE
    values["bootstrap"].setdefault("sft", {}).update(FAKE)
    run.settings.write_text(render_settings(values, preset), encoding="utf-8")
    first = "M_0" if values["bootstrap"]["mode"] == "sft" else "M_1"
    shutil.copytree(converted, run.directory / "models" / first)
    return run


def do(run: Run, *arguments: str) -> str:
    done = run.command(*arguments)
    assert done.returncode == 0, f"{arguments}\n{done.stdout[-2000:]}\n{done.stderr[-4000:]}"
    return done.stdout


@pytest.mark.parametrize("preset", [name for name in method_names() if name != FLOW])
def test_a_preset_comes_from_seeds_to_the_next_checkpoint(
    preset: str, make_run: MakeRun, tiny_model: Path, converted_model: Path
) -> None:
    run = prepared(make_run, preset, tiny_model, converted_model)
    if preset == "rlhf":
        refused = run.command("start")
        assert refused.returncode == 2 and "selfreward import preferences" in refused.stderr
        assert "selfreward import preferences" in run.command("doctor").stdout
        do(run, "import", "preferences", "builtin:ranked", "--limit", "12")
    do(run, "start", "--iterations", "1")
    run.wait_until_nobody_is_left()
    [[kind]] = run.rows("SELECT kind FROM checkpoint WHERE name = 'M_2'")
    assert kind == KINDS[preset]
    assert run.rows("SELECT count(*) FROM checkpoint WHERE name = 'R_1'") == [(preset in WITH_REWARD_MODEL,)]
    assert run.number("SELECT count(*) FROM training_metric WHERE name = 'loss'") > 0
    for made in MADE[preset]:
        assert run.number(made) > 0, made


def test_direct_rlaif_is_compared_with_a_pairwise_judge_that_reuses_its_candidates(
    make_run: MakeRun, tiny_model: Path, converted_model: Path
) -> None:
    run = prepared(make_run, FLOW, tiny_model, converted_model)
    do(run, "start", "--iterations", "1")
    fork = ("--from-iteration", "1", "--reuse", "candidates", "--name", "pairwise")
    do(run, "fork", *fork, "--set", "judge.type=pairwise")
    assert run.number("SELECT count(*) FROM judgement WHERE score IS NOT NULL") > 0
    candidates = run.count("candidate")
    do(run, "start", "--run", "pairwise")
    assert run.count("candidate") == candidates and run.number(COMPARISONS) > 0
    assert run.rows("SELECT kind FROM checkpoint WHERE name = 'M_2'") == [("rl",), ("rl",)]
    do(run, "verify")
    told = do(run, "compare", "demo", "pairwise")
    assert "demo" in told and "pairwise" in told


def test_a_tokenizer_without_a_token_for_each_verdict_is_refused_before_an_engine_starts(
    make_run: MakeRun, tiny_model: Path, converted_model: Path
) -> None:
    run = prepared(make_run, "irpo", tiny_model, converted_model)
    real = run.settings.read_text().replace('type = "fake"', 'type = "vllm"', 1)
    run.settings.write_text(real.replace('scale = "points"', 'scale = "yes_no"'))
    refused = run.command("start")
    assert refused.returncode == 2, refused.stderr
    assert "tokens" in refused.stderr and 'judge.score = \\"sampled\\"' in refused.stderr
    assert run.count("engine_session") == 0 and not list(run.directory.glob("logs/engine*"))
    doctor = run.command("doctor", "--json")
    [found] = [each for each in json.loads(doctor.stdout) if each["what"] == "tokenizer"]
    assert found["level"] == "missing" and 'judge.score = "sampled"' in found["remedy"]
