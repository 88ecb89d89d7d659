"""What is written is what is read: every kind of row, every format, every Unicode trouble."""

import json
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pyarrow.parquet
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from selfreward.errors import BadInput
from selfreward.exports.columns import columns, from_record, to_record
from selfreward.exports.kinds import ROWS, Format
from selfreward.exports.reading import read_pairs, read_rows
from selfreward.exports.writing import WRITERS, write_jsonl, write_parquet
from selfreward.store.exported import Exported, ExportedPair, Message, assistant, user
from selfreward.text import clean, restore

TROUBLES = (
    "",
    "\x00 NUL \x07 bell",
    "half a fox \ud83e, the other \udd8a",
    "\ufffd0000 looks like a mark",
    "line\r\nline\u2028line\u2029line\x85line\x0bline\x0cline",
    "\u202egnp.exe\u202c \u2066isolated\u2069 \ufeff",
    "=HYPERLINK('x')\t\"quoted\\ ",
    "e\u0301 é ﷽ 𒐫 👩‍👩‍👧‍👦",
)


def columns_of(hint: Any) -> st.SearchStrategy[Any]:
    """Any value of a column's type, texts as the store would have them."""
    texts = (st.sampled_from(TROUBLES) | st.text(max_size=40)).map(clean)
    known: dict[Any, st.SearchStrategy[Any]] = {
        str: texts,
        int: st.integers(-(2**63), 2**63 - 1),
        float: st.floats(allow_nan=False, allow_infinity=False),
        tuple[Message, ...]: texts.map(user) | texts.map(assistant),
        tuple[float, ...]: st.lists(st.floats(0, 1), max_size=6).map(tuple),
    }
    return known[hint]


def rows_of(row_type: type[Exported]) -> st.SearchStrategy[Exported]:
    """Any row of a kind."""
    values = {
        column.name: columns_of(column.type) | st.none() if column.nullable else columns_of(column.type)
        for column in columns(row_type)
    }
    return st.builds(row_type, **values)


@st.composite
def exports(draw: st.DrawFn) -> tuple[type[Exported], list[Exported]]:
    """A few rows of one kind."""
    row_type = draw(st.sampled_from(list(ROWS.values())))
    return row_type, draw(st.lists(rows_of(row_type), min_size=1, max_size=5))


@pytest.mark.parametrize("form", [Format.JSONL, Format.PARQUET])
@given(export=exports())
@settings(max_examples=30, deadline=None, suppress_health_check=[HealthCheck.too_slow])
def test_what_is_read_is_what_was_written(
    form: Format, export: tuple[type[Exported], list[Exported]]
) -> None:
    row_type, rows = export
    with tempfile.TemporaryDirectory() as directory:
        WRITERS[form](iter(rows), row_type, Path(directory), "data")
        assert list(read_rows(Path(directory), row_type)) == rows


def pair(number: int, text: str = "fox") -> ExportedPair:
    return ExportedPair(
        prompt=user(text),
        chosen=assistant(f"good {number}"),
        rejected=assistant(f"bad {number}"),
        chosen_score=4.5,
        rejected_score=1.0,
        margin=3.5,
        soft_label=None,
        origin="ai",
        excluded=None,
        pair_id=number,
        prompt_id=number,
        chosen_id=2 * number,
        rejected_id=2 * number + 1,
        run="main",
        iteration=1,
        written_by="M_1",
        judged_by="M_1",
        judge_id=1,
    )


@pytest.mark.parametrize("form", [Format.JSONL, Format.PARQUET])
def test_what_was_really_said_can_be_had_back(form: Format, tmp_path: Path) -> None:
    said = "\n".join(TROUBLES)
    WRITERS[form]([pair(1, clean(said))], ExportedPair, tmp_path, "data")
    [row] = read_pairs(tmp_path)
    assert restore(row.prompt[0].content) == said


def test_json_lines_are_lines_for_every_reader(tmp_path: Path) -> None:
    texts = [clean(text) for text in TROUBLES]
    write_jsonl([pair(1, text) for text in texts], ExportedPair, tmp_path, "data")
    lines = (tmp_path / "data.jsonl").read_text(encoding="utf-8").splitlines()
    assert [json.loads(line)["prompt"][0]["content"] for line in lines] == texts


def test_pairs_have_the_shape_that_trl_reads(tmp_path: Path) -> None:
    write_jsonl([pair(7)], ExportedPair, tmp_path, "data")
    record = json.loads((tmp_path / "data.jsonl").read_text())
    assert record["prompt"] == [{"role": "user", "content": "fox"}]
    assert record["chosen"] == [{"role": "assistant", "content": "good 7"}]
    assert record["rejected"] == [{"role": "assistant", "content": "bad 7"}]


def test_parquet_is_written_in_groups_and_in_shards_and_read_in_order(tmp_path: Path) -> None:
    rows = [pair(number, "x" * 200) for number in range(3_000)]
    write_parquet(iter(rows), ExportedPair, tmp_path, "pairs", group_bytes=200_000, shard_bytes=600_000)
    names = sorted(path.name for path in tmp_path.iterdir())
    assert len(names) > 1 and names[0] == "pairs-00000.parquet" and names[1] == "pairs-00001.parquet"
    assert pyarrow.parquet.ParquetFile(tmp_path / names[0]).num_row_groups > 1
    assert list(read_pairs(tmp_path)) == rows


def test_one_shard_needs_no_number(tmp_path: Path) -> None:
    write_parquet([pair(1)], ExportedPair, tmp_path, "pairs-iteration-1")
    assert [path.name for path in tmp_path.iterdir()] == ["pairs-iteration-1.parquet"]


def test_rows_are_taken_as_they_are_written_and_not_all_at_once(tmp_path: Path) -> None:
    largest = 0

    def watched() -> Iterator[ExportedPair]:
        nonlocal largest
        for number in range(5_000):
            largest = max(largest, number - written(tmp_path / "data.jsonl"))
            yield pair(number, "x" * 1_000)

    write_jsonl(watched(), ExportedPair, tmp_path, "data")
    assert largest < 100


def written(path: Path) -> int:
    return path.stat().st_size // 1_000 if path.exists() else 0


def broken(rows: Sequence[ExportedPair], **change: Any) -> dict[str, Any]:
    return to_record(rows[0]) | change


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"prompt": "not a list of turns"}, "prompt"),
        ({"prompt": [{"role": "user"}]}, "prompt"),
        ({"chosen_score": "4.5"}, "chosen_score"),
        ({"origin": None}, "origin"),
        ({"pair_id": 1.5}, "pair_id"),
        ({"pair_id": True}, "pair_id"),
        ({"run": 3}, "run"),
    ],
)
def test_a_column_that_holds_something_else_is_named(change: dict[str, Any], said: str) -> None:
    with pytest.raises(BadInput, match=rf"x line 1: {said} cannot be"):
        from_record(ExportedPair, broken([pair(1)], **change), "x line 1")


def test_a_column_that_lacks_is_named_and_one_of_others_is_passed_over() -> None:
    record = to_record(pair(1))
    assert from_record(ExportedPair, record | {"mine": 1}, "x") == pair(1)
    del record["margin"]
    with pytest.raises(BadInput, match="no column 'margin'"):
        from_record(ExportedPair, record, "x")


def test_a_file_that_was_cut_off_is_told_with_its_line(tmp_path: Path) -> None:
    write_jsonl([pair(1), pair(2)], ExportedPair, tmp_path, "data")
    file = tmp_path / "data.jsonl"
    file.write_bytes(file.read_bytes()[:-20])
    with pytest.raises(BadInput, match=r"line 2: "):
        list(read_pairs(file))


def test_parquet_that_was_cut_off_is_told(tmp_path: Path) -> None:
    write_parquet([pair(1)], ExportedPair, tmp_path, "data")
    file = tmp_path / "data.parquet"
    file.write_bytes(file.read_bytes()[:-20])
    with pytest.raises(BadInput, match="cut off"):
        list(read_pairs(file))


def test_a_place_without_an_export_is_told(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match="no data"):
        list(read_pairs(tmp_path))
    with pytest.raises(BadInput, match="is not there"):
        list(read_pairs(tmp_path / "nowhere.jsonl"))


def test_nothing_of_a_row_is_lost_when_one_value_changes() -> None:
    one, other = pair(1), replace(pair(1), soft_label=0.75)
    assert to_record(one) != to_record(other)
    assert from_record(ExportedPair, to_record(other), "x") == other
