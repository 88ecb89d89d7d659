"""Settings: what a user can get wrong, and what they are told."""

import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

from selfreward.config import (
    SETTINGS_FILE,
    Settings,
    load_preset,
    load_settings,
    parse_settings,
    preset_names,
    render_settings,
)
from selfreward.errors import BadInput


def refusal(text: str) -> str:
    with pytest.raises(BadInput) as caught:
        parse_settings(text, SETTINGS_FILE)
    return caught.value.message


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("[train]\nbetta = 0.2", "line 2: there is no setting 'train.betta'; did you mean 'train.beta'?"),
        ("\n\n[trian]\nbeta = 0.2", "line 3: there is no setting 'trian'; did you mean 'train'?"),
        ("beta = 0.2", "line 1: there is no setting 'beta'; did you mean 'train.beta'?"),
        ("train.betta = 1", "line 1: there is no setting 'train.betta'; did you mean 'train.beta'?"),
        ("[train.lora]\nrank = 4", "line 2: there is no setting 'train.lora.rank'"),
    ],
)
def test_an_unknown_key_gets_its_line_and_the_nearest_name(text: str, told: str) -> None:
    assert refusal(text).startswith(f"{SETTINGS_FILE} {told}")


@pytest.mark.parametrize(
    ("text", "place", "told"),
    [
        ("[train]\n\nbeta = -1", "line 3", "greater than 0"),
        ("[train]\nbatch_size = 6\nmicro_batch_size = 4", "line 1", "not a multiple"),
        ("[train]\nlearning_rate = 1e-8", "line 1", "is above learning_rate"),
        ('[daemon]\nrun_window = "late"', "line 2", "not a window"),
        ('name = "../escape"', "line 1", "name"),
        ('[engine]\ntype = "llama.cpp"', "line 2", "'vllm' or 'fake'"),
        ("[sample]\ncandidates = 1", "line 2", "greater than or equal to 2"),
    ],
)
def test_a_bad_value_gets_its_line_and_the_reason(text: str, place: str, told: str) -> None:
    message = refusal(text)
    assert f"{SETTINGS_FILE} {place}" in message and told in message


def test_several_mistakes_are_told_at_once() -> None:
    assert len(refusal("[train]\nbetta = 1\nepochs = 0\n[judge]\nsample = 3").splitlines()) == 3


def test_broken_toml_is_told_with_its_line() -> None:
    assert "line 2" in refusal("[train]\nbeta = \nepochs = 1")


def write(directory: Path, text: str) -> Path:
    (directory / SETTINGS_FILE).write_text(text)
    return directory


def test_overrides_beat_environment_beats_file(tmp_path: Path) -> None:
    write(tmp_path, "iterations = 1\n[train]\nbeta = 0.1\nepochs = 1")
    environ = {"SELFREWARD_TRAIN__BETA": "0.2", "SELFREWARD_TRAIN__EPOCHS": "2", "HOME": "x"}
    settings = load_settings(tmp_path, ["train.beta=0.3"], environ)
    assert (settings.train.beta, settings.train.epochs, settings.iterations) == (0.3, 2, 1)


def test_override_values_need_no_quotes(tmp_path: Path) -> None:
    write(tmp_path, "")
    settings = load_settings(tmp_path, ["model=org/name", "judge.guided=true", 'seeds.files=["a.jsonl"]'], {})
    assert (settings.model, settings.judge.guided, settings.seeds.files) == ("org/name", True, ("a.jsonl",))


@pytest.mark.parametrize(
    ("overrides", "environ", "told"),
    [
        (["train.betta=1"], {}, "--set train.betta=1: there is no setting 'train.betta'"),
        ([], {"SELFREWARD_TRAIN__BETTA": "1"}, "environment variable SELFREWARD_TRAIN__BETTA: there is no"),
        (["train.beta"], {}, "expected key=value"),
        (["train.beta=much"], {}, "--set train.beta=much: train.beta: Input should be a valid number"),
        (["iterations.x=1"], {}, "'iterations' is a value, not a table"),
    ],
)
def test_a_bad_override_is_told_by_its_own_name(
    tmp_path: Path, overrides: list[str], environ: dict[str, str], told: str
) -> None:
    write(tmp_path, "iterations = 1")
    with pytest.raises(BadInput, match=None) as caught:
        load_settings(tmp_path, overrides, environ)
    assert told in caught.value.message


def test_a_missing_file_names_the_command_that_makes_one(tmp_path: Path) -> None:
    with pytest.raises(BadInput) as caught:
        load_settings(tmp_path, environ={})
    assert "selfreward init" in caught.value.hint


def test_a_file_that_is_no_text_is_refused(tmp_path: Path) -> None:
    (tmp_path / SETTINGS_FILE).write_bytes(b"name = '\xff'")
    with pytest.raises(BadInput, match="not UTF-8"):
        load_settings(tmp_path, environ={})


def test_settings_cannot_be_changed_in_place() -> None:
    with pytest.raises(ValueError, match="frozen"):
        Settings().train.beta = 3  # type: ignore[misc]


def test_the_hash_follows_every_setting() -> None:
    assert Settings().digest() == Settings().digest() != parse_settings("seed = 1", "x").digest()


@pytest.mark.parametrize("preset", preset_names())
def test_a_preset_renders_and_reads_back_as_itself(preset: str) -> None:
    values = load_preset(preset)
    text = render_settings(values, "header")
    assert parse_settings(text, "x") == Settings.model_validate(values)
    assert "# Strength of the pull to the reference model." in text


def test_the_paper_preset_has_the_papers_numbers() -> None:
    settings = Settings.model_validate(load_preset("paper"))
    writer, train = settings.self_instruct, settings.train
    assert (writer.seed_demonstrations, writer.model_demonstrations, writer.temperature, writer.top_p) == (
        6,
        2,
        0.6,
        0.9,
    )
    assert (settings.sample.candidates, settings.sample.temperature, settings.sample.top_p) == (4, 0.7, 0.9)
    assert settings.judge.samples == 3
    assert (train.beta, train.learning_rate, train.final_learning_rate) == (0.1, 1e-6, 1e-7)
    assert (train.batch_size, train.dropout) == (16, 0.1)


def test_an_unknown_preset_lists_the_known_ones() -> None:
    with pytest.raises(BadInput) as caught:
        load_preset("papper")
    assert "did you mean 'paper'?" in caught.value.message and "demo" in caught.value.hint


def test_every_setting_is_explained() -> None:
    text = render_settings({}, "header")
    lines = text.splitlines()
    keys = [place for place, line in enumerate(lines) if " = " in line and not line.startswith("#")]
    assert len(keys) > 50
    assert [lines[place] for place in keys if not lines[place - 1].startswith("#")] == []
    tomllib.loads(text)


LIGHT = """
import sys
import selfreward.cli, selfreward.daemon, selfreward.foreground
import selfreward.terminal.status, selfreward.terminal.doctor
heavy = {"torch", "transformers", "trl", "vllm", "datasets", "peft"} & set(sys.modules)
assert not heavy, heavy
"""


def test_commands_and_daemon_never_load_model_code() -> None:
    subprocess.run([sys.executable, "-c", LIGHT], check=True)
