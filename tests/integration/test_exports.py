"""Exports in the hands of others: `datasets` loads them, TRL takes their rows, nothing is lost."""

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from selfreward.exports.kinds import ROWS, Format, Kind
from selfreward.exports.reading import read_pairs, read_rows
from selfreward.exports.writing import write_hf, write_parquet
from selfreward.store.exported import ExportedPair
from selfreward.text import clean
from tests.commands import Done, selfreward
from tests.unit.test_exports_formats import TROUBLES, pair

KINDS = ("pairs", "candidates", "judgements", "sft")
ACCEPTANCE = "import datasets; print(datasets.load_dataset('parquet', data_files='out/*.parquet'))"


@pytest.fixture(autouse=True)
def offline(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """No network, and a cache that goes with the test."""
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.setattr("datasets.config.HF_DATASETS_CACHE", tmp_path / "cache")
    monkeypatch.chdir(tmp_path)


@pytest.fixture
def export(done_run: Path) -> Any:
    """The command, on a run that is done."""

    def run(*arguments: str) -> Done:
        done = selfreward("export", *arguments, "--dir", str(done_run))
        assert done.returncode == 0, done.stderr
        return done

    return run


def test_the_line_in_the_help_loads_the_pairs(export: Any, tmp_path: Path) -> None:
    export("pairs", "--iteration", "1", "--format", "parquet", "out/")
    environment = {**os.environ, "HF_HOME": str(tmp_path / "home")}
    done = subprocess.run(
        [sys.executable, "-c", ACCEPTANCE], env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert "num_rows: 12" in done.stdout and "'prompt', 'chosen', 'rejected'" in done.stdout


@pytest.mark.parametrize("kind", KINDS)
def test_a_directory_loads_by_its_card(export: Any, tmp_path: Path, kind: str) -> None:
    import datasets

    for form in ("parquet", "jsonl"):
        export(kind, "--all", "--format", form, form)
        loaded = datasets.load_dataset(str(tmp_path / form), split="train")
        rows = list(read_rows(tmp_path / form, ROWS[Kind(kind)]))
        assert loaded.num_rows == len(rows)
        assert loaded.column_names == list(vars(rows[0]))


@pytest.mark.parametrize("kind", KINDS)
def test_what_datasets_saved_is_read_back_as_the_same_rows(export: Any, tmp_path: Path, kind: str) -> None:
    export(kind, "--all", "--format", "hf", "saved")
    export(kind, "--all", "--format", "parquet", "parquet")
    row_type = ROWS[Kind(kind)]
    assert list(read_rows(tmp_path / "saved", row_type)) == list(read_rows(tmp_path / "parquet", row_type))


def test_a_saved_directory_holds_nothing_of_this_machine(export: Any, tmp_path: Path) -> None:
    import datasets

    export("pairs", "--iteration", "1", "--format", "hf", "saved")
    assert datasets.load_from_disk(str(tmp_path / "saved")).num_rows == 12
    names = {path.name for path in (tmp_path / "saved").iterdir()}
    assert names == {"README.md", "data-00000-of-00001.arrow", "dataset_info.json", "state.json"}
    for name in ("dataset_info.json", "state.json", "README.md"):
        assert str(tmp_path) not in (tmp_path / "saved" / name).read_text()


def test_every_unicode_trouble_survives_datasets(tmp_path: Path) -> None:
    import datasets

    rows = [pair(number, clean(text)) for number, text in enumerate(TROUBLES)]
    write_hf(iter(rows), ExportedPair, tmp_path / "saved", "pairs")
    assert list(read_pairs(tmp_path / "saved")) == rows
    (tmp_path / "parquet").mkdir()
    write_parquet(iter(rows), ExportedPair, tmp_path / "parquet", "pairs")
    loaded = datasets.load_dataset(Format.PARQUET, data_files="parquet/*.parquet", split="train")
    assert [row["prompt"][0]["content"] for row in loaded] == [row.prompt[0].content for row in rows]


def test_pairs_and_examples_are_what_trl_calls_conversational(
    export: Any, tmp_path: Path, tiny_model: Path
) -> None:
    import datasets
    from transformers import AutoTokenizer
    from trl.data_utils import apply_chat_template, is_conversational

    tokenizer = AutoTokenizer.from_pretrained(tiny_model)
    for kind, sides in (("pairs", ("chosen", "rejected")), ("sft", ("completion",))):
        export(kind, "--iteration", "1", kind)
        loaded = datasets.load_dataset("parquet", data_files=f"{kind}/*.parquet", split="train")
        for row in loaded:
            assert is_conversational(row)
            wanted = {name: row[name] for name in ("prompt", *sides)}
            templated = apply_chat_template(wanted, tokenizer)
            assert row["prompt"][0]["content"] in templated["prompt"]
            assert all(templated[side].startswith(row[side][0]["content"]) for side in sides)


def test_the_dpo_trainer_takes_the_pairs_as_they_are(export: Any, tmp_path: Path, tiny_model: Path) -> None:
    import datasets
    from transformers import AutoModelForCausalLM, AutoTokenizer
    from trl import DPOConfig, DPOTrainer

    export("pairs", "--iteration", "1", "out")
    trainer = DPOTrainer(
        model=AutoModelForCausalLM.from_pretrained(tiny_model),
        args=DPOConfig(output_dir=str(tmp_path / "trained"), use_cpu=True, bf16=False, report_to="none"),
        train_dataset=datasets.load_dataset("parquet", data_files="out/*.parquet", split="train"),
        processing_class=AutoTokenizer.from_pretrained(tiny_model),
    )
    assert len(trainer.train_dataset) == 12
    assert all(row["chosen_ids"] and row["rejected_ids"] for row in trainer.train_dataset)
