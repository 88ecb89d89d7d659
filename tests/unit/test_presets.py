"""Presets: what `selfreward init` makes of a method's name, on any model and on the demo's."""

from pathlib import Path

import pytest

from selfreward.config import (
    SETTINGS_FILE,
    Settings,
    load_preset,
    load_settings,
    method_names,
    parse_settings,
    preset_names,
    render_settings,
)
from selfreward.config.consistency import conflicts, ignored
from selfreward.errors import BadInput
from selfreward.resources import preset_lines, presets_dir
from tests.commands import selfreward

METHODS = {
    "rlaif": {"train.objective": "rl", "train.rl.reward": "reward_model", "judge.type": "pairwise"},
    "direct-rlaif": {"train.objective": "rl", "train.rl.reward": "judge", "judge.score": "direct"},
    "rlhf": {"train.objective": "rl", "train.rl.reward": "reward_model", "pair.imported_share": 1.0},
    "slic-hf": {"train.objective": "slic", "judge.type": "pairwise"},
    "rrhf": {"train.objective": "rrhf", "judge.type": "rubric"},
    "positive-only": {"train.objective": "sft_positive"},
    "meta-rewarding": {"judge.meta.enabled": True, "pair.rule": "length_controlled"},
    "cream": {"train.objective": "cream"},
    "irpo": {"train.objective": "dpo", "train.losses": ("sigmoid", "sft")},
}


def of(settings: Settings, key: str) -> object:
    value: object = settings
    for part in key.split("."):
        value = getattr(value, part)
    return value


def test_the_methods_are_those_that_there_are() -> None:
    assert set(method_names()) == set(METHODS) == set(preset_names()) - {"demo", "paper"}


@pytest.mark.parametrize("on_demo", [False, True])
@pytest.mark.parametrize("name", METHODS)
def test_a_method_is_what_it_is_on_any_model(name: str, on_demo: bool) -> None:
    settings = Settings.model_validate(load_preset(name, on_demo))
    assert {key: of(settings, key) for key in METHODS[name]} == METHODS[name]


@pytest.mark.parametrize("on_demo", [False, True])
@pytest.mark.parametrize("name", METHODS)
def test_a_method_contradicts_itself_nowhere_and_sets_nothing_in_vain(name: str, on_demo: bool) -> None:
    settings = Settings.model_validate(load_preset(name, on_demo))
    assert conflicts(settings) == [] and ignored(settings) == []


@pytest.mark.parametrize("on_demo", [False, True])
@pytest.mark.parametrize("name", METHODS)
def test_a_method_reads_back_from_its_file_as_itself(name: str, on_demo: bool) -> None:
    values = load_preset(name, on_demo)
    assert parse_settings(render_settings(values, "header"), "x") == Settings.model_validate(values)


@pytest.mark.parametrize("name", METHODS)
def test_a_method_has_the_papers_numbers_where_it_has_none_of_its_own(name: str) -> None:
    settings = Settings.model_validate(load_preset(name))
    assert (settings.self_instruct.target, settings.train.batch_size, settings.bootstrap.mode) == (
        5000,
        16,
        "sft",
    )


@pytest.mark.parametrize("name", METHODS)
def test_a_method_on_the_demo_model_is_small_and_its_run_is_called_demo(name: str) -> None:
    settings = Settings.model_validate(load_preset(name, on_demo=True))
    assert settings.name == "demo" and settings.model.startswith("pkg:") and settings.iterations == 1
    assert settings.self_instruct.target <= 12 and settings.judge.scale == "yes_no"
    assert settings.judge.template == "judge_yes_no.jinja"


def test_the_demo_is_as_it_was() -> None:
    settings = Settings.model_validate(load_preset("demo"))
    assert (settings.iterations, settings.self_instruct.target, settings.judge.score) == (2, 14, "expected")
    assert settings.bootstrap.mode == "sft" and settings.evaluation.enabled and settings.gates.enabled


def test_the_first_layer_that_says_something_from_above_wins() -> None:
    def score(name: str, on_demo: bool) -> str:
        return Settings.model_validate(load_preset(name, on_demo)).judge.score

    assert (score("cream", False), score("cream", True)) == ("expected", "direct")  # [judge] < [demo.judge]
    assert (score("irpo", False), score("irpo", True)) == ("sampled", "direct")  # nothing < [methods.judge]
    assert score("meta-rewarding", True) == "sampled"  # [methods.judge] < [judge]


@pytest.mark.parametrize("name", METHODS)
def test_a_method_says_its_paper_and_where_it_departs_from_it(name: str) -> None:
    comment = (presets_dir() / f"{name}.toml").read_text(encoding="utf-8").partition("\n[")[0]
    assert "(arXiv " in preset_lines()[name] or "InstructGPT" in preset_lines()[name]
    assert "departs from the paper" in comment


def test_an_unknown_preset_gets_the_nearest_name() -> None:
    done = selfreward("init", "nowhere", "--preset", "slichf")
    assert done.returncode == 2 and "did you mean 'slic-hf'?" in done.stderr and "rrhf" in done.stderr
    with pytest.raises(BadInput, match="did you mean 'rlaif'"):
        load_preset("rlaiff")


def test_init_lists_the_presets_with_a_line_each() -> None:
    told = selfreward("init", "--help").stdout
    for name in ("demo", "paper", *METHODS):
        assert f"{name}:" in told


def test_init_on_the_demo_model_takes_its_numbers_too(tmp_path: Path) -> None:
    made = selfreward("init", str(tmp_path / "a"), "--preset", "rrhf", "--model", "demo")
    assert made.returncode == 0, made.stderr
    settings = load_settings(tmp_path / "a", environ={})
    assert (settings.name, settings.self_instruct.target, settings.train.objective) == ("demo", 8, "rrhf")
    assert "arXiv 2304.05302" in (tmp_path / "a" / SETTINGS_FILE).read_text(encoding="utf-8")


def test_init_on_another_model_takes_the_papers(tmp_path: Path) -> None:
    made = selfreward("init", str(tmp_path / "a"), "--preset", "rrhf", "--model", "org/model")
    assert made.returncode == 0, made.stderr
    settings = load_settings(tmp_path / "a", environ={})
    assert (settings.model, settings.self_instruct.target) == ("org/model", 5000)


def test_a_method_names_no_model(tmp_path: Path) -> None:
    refused = selfreward("init", str(tmp_path / "a"), "--preset", "rrhf")
    assert refused.returncode == 2 and "--model demo" in refused.stderr


def test_what_needs_human_preferences_says_how_to_have_them(tmp_path: Path) -> None:
    told = selfreward("init", str(tmp_path / "a"), "--preset", "rlhf", "--model", "demo").stdout
    first, *_, last = [line for line in told.splitlines() if line.startswith("next:")]
    assert "selfreward import preferences builtin:ranked" in first and "selfreward start" in last
    told = selfreward("init", str(tmp_path / "b"), "--preset", "irpo", "--model", "demo").stdout
    assert "import preferences" not in told
