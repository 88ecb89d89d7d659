"""Seeds from tables: Parquet, OpenAssistant's flat messages, data sets of the hub (local ones here)."""

import json
import random
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from selfreward.errors import BadInput
from selfreward.seeds import SeedReading, read_seeds
from selfreward.types import RankedReply, Seed

pyarrow = pytest.importorskip("pyarrow", reason="Parquet is read by pyarrow, of the train extra")
parquet = pytest.importorskip("pyarrow.parquet")

SHARED = Path(__file__).resolve().parents[3] / "shared" / "data"

Row = dict[str, Any]

RANKED: list[Row] = [
    {"text": "Do re mi.", "rank": 0, "score": 5, "justification": "In tune."},
    {"text": "No.", "rank": 1, "score": None, "justification": None},
]


def write(path: Path, rows: list[Row], **options: Any) -> str:
    """Writes a Parquet file and returns its name."""
    path.parent.mkdir(parents=True, exist_ok=True)
    parquet.write_table(pyarrow.Table.from_pylist(rows), path, **options)
    return path.name


def refusal(names: list[str], base: Path) -> BadInput:
    with pytest.raises(BadInput) as caught:
        read_seeds(names, base)
    assert caught.value.hint
    return caught.value


def message(identity: str, parent: str | None, tree: str, **changes: Any) -> Row:
    """A usable message, with a few of the columns that are of no use here."""
    usable: Row = {"text": f"Text {identity}.", "lang": "en", "deleted": False, "synthetic": False}
    ids = {"message_id": identity, "parent_id": parent, "message_tree_id": tree}
    return {**ids, **usable, "rank": None, "review_result": True, "role": "x", "user_id": "y", **changes}


MESSAGES = [
    message("a", None, "a"),
    message("a1", "a", "a", rank=1),
    message("a0", "a", "a", rank=0),
    message("a00", "a0", "a"),
    message("a000", "a00", "a", rank=0),
    message("b", None, "b", lang="es"),
    message("b0", "b", "b", lang="es", rank=0),
    message("c", None, "c", review_result=None),
    message("c0", "c", "c", rank=0),
    message("c1", "c", "c", rank=1, deleted=True),
    message("d0", "d", "d", rank=0),
    message("d1", "d", "d", rank=1),
]
SKIPPED = {"not_english": 1, "ranks_missing": 1, "reply_deleted": 1, "reply_without_prompt": 2}


def seeds_of_messages(origin: str) -> tuple[Seed, ...]:
    replies = (RankedReply(text="Text a0.", rank=0), RankedReply(text="Text a1.", rank=1))
    return (
        Seed(instruction="Text a.", answer="Text a0.", origin=origin, replies=replies),
        Seed(instruction="Text c.", answer="Text c0.", origin=origin),
    )


# Parquet


def test_plain_and_ranked_columns_are_read_whatever_the_file_is_called(tmp_path: Path) -> None:
    plain = write(tmp_path / "plain.jsonl", [{"instruction": "Hum.", "answer": None, "id": 1}])
    ranked = write(tmp_path / "ranked.gz", [{"prompt": "Sing.", "split": None, "replies": RANKED}])
    assert read_seeds([plain, ranked], tmp_path, held_out=0).seeds == (
        Seed(instruction="Hum.", origin=plain),
        Seed(
            instruction="Sing.",
            answer="Do re mi.",
            origin=ranked,
            replies=(
                RankedReply(text="Do re mi.", rank=0, score=5.0, justification="In tune."),
                RankedReply(text="No.", rank=1),
            ),
        ),
    )


def test_all_rows_of_all_row_groups_are_read_in_order(tmp_path: Path) -> None:
    rows = [{"instruction": f"Sing {number}."} for number in range(500)]
    name = write(tmp_path / "many", rows, row_group_size=150)
    assert [seed.instruction for seed in read_seeds([name], tmp_path).seeds] == [
        row["instruction"] for row in rows
    ]


def test_the_index_that_pandas_leaves_is_no_part_of_a_seed(tmp_path: Path) -> None:
    name = write(tmp_path / "p", [{"instruction": "Sing.", "__index_level_0__": 7}])
    assert len(read_seeds([name], tmp_path).seeds) == 1


def test_a_row_of_ten_megabytes_is_skipped_and_counted(tmp_path: Path) -> None:
    rows = [{"instruction": "Sing."}, {"instruction": "x" * 10_000_000}, {"instruction": "Hum."}]
    reading = read_seeds([write(tmp_path / "large", rows)], tmp_path)
    assert [seed.instruction for seed in reading.seeds] == ["Sing.", "Hum."]
    assert reading.skipped == {"too_large": 1}


def test_a_row_that_is_not_as_documented_is_refused_with_its_number(tmp_path: Path) -> None:
    rows = [{"instruction": f"Sing {number}.", "output": "La."} for number in range(3)]
    error = refusal([write(tmp_path / "other", rows)], tmp_path)
    assert f"{tmp_path / 'other'} row 1: keys that it should not have: 'output'" in error.message
    tied = [
        {"prompt": f"Sing {n}.", "replies": [{**RANKED[0], "rank": n % 70} for n in (n, 69)]}
        for n in range(70)
    ]
    error = refusal([write(tmp_path / "tied", tied, row_group_size=30)], tmp_path)
    assert f"{tmp_path / 'tied'} row 70: " in error.message


@pytest.mark.parametrize("kept", [4, 5, 100, -100, -1])
def test_a_parquet_file_cut_off_is_refused_whole(tmp_path: Path, kept: int) -> None:
    rows = [{"instruction": f"Sing {number}."} for number in range(100)]
    path = tmp_path / "cut.parquet"
    write(path, rows)
    path.write_bytes(path.read_bytes()[:kept])
    error = refusal(["builtin", path.name], tmp_path)
    assert f"{path} row group 1: broken Parquet data" in error.message


def test_a_damaged_row_group_is_named(tmp_path: Path) -> None:
    path = tmp_path / "damaged.parquet"
    write(path, [{"instruction": f"Sing {n:04}."} for n in range(1000)], row_group_size=500)
    data = bytearray(path.read_bytes())
    start = parquet.ParquetFile(path).metadata.row_group(1).column(0).data_page_offset
    data[start : start + 60] = bytes([255] * 60)
    path.write_bytes(data)
    assert f"{path} row group 2: broken Parquet data" in refusal([path.name], tmp_path).message


def test_a_column_that_is_not_utf_8_is_refused(tmp_path: Path) -> None:
    latin = pyarrow.array([b"caf\xe9"], pyarrow.binary()).view(pyarrow.string())
    parquet.write_table(pyarrow.table({"instruction": latin}), tmp_path / "latin")
    assert f"{tmp_path / 'latin'} row group 1: " in refusal(["latin"], tmp_path).message


def test_a_table_without_rows_is_refused(tmp_path: Path) -> None:
    parquet.write_table(
        pyarrow.table({"instruction": pyarrow.array([], pyarrow.string())}), tmp_path / "none"
    )
    assert "is empty" in refusal(["none"], tmp_path).message


def test_a_missing_pyarrow_is_said_with_the_command_that_installs_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    name = write(tmp_path / "p", [{"instruction": "Sing."}])
    monkeypatch.setitem(sys.modules, "pyarrow.parquet", None)
    error = refusal([name], tmp_path)
    assert "pyarrow is not installed" in error.message
    assert "pip install" in error.hint


# Flat messages


@pytest.mark.parametrize("order", ["as written", "reversed", "shuffled"])
def test_a_table_of_messages_becomes_first_turns_with_their_replies(tmp_path: Path, order: str) -> None:
    rows = MESSAGES[:: -1 if order == "reversed" else 1]
    if order == "shuffled":
        random.Random(5).shuffle(rows)
    reading = read_seeds([write(tmp_path / "messages", rows)], tmp_path, held_out=0)
    assert sorted(reading.seeds, key=lambda seed: seed.instruction) == list(seeds_of_messages("messages"))
    assert reading.skipped == SKIPPED


def test_messages_are_read_from_json_lines_as_well(tmp_path: Path) -> None:
    (tmp_path / "lines").write_text("".join(f"{json.dumps(row)}\n" for row in MESSAGES))
    reading = read_seeds(["lines"], tmp_path, held_out=0)
    assert reading == SeedReading(seeds=seeds_of_messages("lines"), skipped=SKIPPED)


def test_a_message_that_comes_twice_is_one_message(tmp_path: Path) -> None:
    reading = read_seeds([write(tmp_path / "twice", MESSAGES[:3] * 2)], tmp_path, held_out=0)
    assert reading.seeds == seeds_of_messages("twice")[:1]


@pytest.mark.parametrize("column", ["message_tree_id", "text", "lang"])
def test_a_table_of_messages_without_a_needed_column_is_refused(tmp_path: Path, column: str) -> None:
    rows = [{key: value for key, value in row.items() if key != column} for row in MESSAGES]
    error = refusal([write(tmp_path / "lacking", rows)], tmp_path)
    assert f"{tmp_path / 'lacking'} row 1: " in error.message
    assert f'"{column}"' in error.message


def flattened(node: Row, tree: str, parent: str | None) -> Iterator[Row]:
    keys = ("message_id", "text", "role", "lang", "rank", "deleted", "synthetic", "review_result")
    yield {"message_tree_id": tree, "parent_id": parent, **{key: node.get(key) for key in keys}}
    for reply in node["replies"]:
        yield from flattened(reply, tree, node["message_id"])


def test_the_real_trees_as_a_table_give_what_the_trees_give(tmp_path: Path) -> None:
    path = SHARED / "oasst_trees_en_60.jsonl"
    if not path.exists():
        pytest.skip("no oasst_trees_en_60.jsonl in the shared data beside this checkout")
    trees = [json.loads(line) for line in path.read_text("utf-8").splitlines()]
    rows = [row for tree in trees for row in flattened(tree["prompt"], tree["message_tree_id"], None)]
    assert len(rows) > 300
    name = write(tmp_path / path.name, rows, row_group_size=100)
    assert read_seeds([name], tmp_path) == read_seeds([name], SHARED)


# The hub


@pytest.fixture
def datasets(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """The library, caching below the test's own directory and asking nobody."""
    library = pytest.importorskip("datasets", reason="data sets of the hub are read by datasets")
    monkeypatch.setattr("datasets.config.HF_DATASETS_CACHE", tmp_path / "cache")
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    monkeypatch.setattr("datasets.config.HF_HUB_OFFLINE", True)
    return library


def test_a_data_set_of_messages_is_read_through_datasets(tmp_path: Path, datasets: Any) -> None:
    write(tmp_path / "OpenAssistant" / "oasst1" / "train-0.parquet", MESSAGES)
    name = "hub:OpenAssistant/oasst1"
    reading = read_seeds([name], tmp_path, held_out=0)
    assert reading == SeedReading(seeds=seeds_of_messages(name), skipped=SKIPPED)


def test_a_split_can_be_named(tmp_path: Path, datasets: Any) -> None:
    for split in ("train", "validation"):
        folder = tmp_path / "org" / "songs"
        folder.mkdir(parents=True, exist_ok=True)
        (folder / f"{split}.jsonl").write_text(json.dumps({"instruction": f"Sing {split}."}))
    for name, sung in [
        ("hub:org/songs", ["Sing train."]),
        ("hub:org/songs:validation", ["Sing validation."]),
        ("hub:org/songs:train+validation", ["Sing train.", "Sing validation."]),
    ]:
        assert [seed.instruction for seed in read_seeds([name], tmp_path).seeds] == sung
    error = refusal(["hub:org/songs:test"], tmp_path)
    assert "hub:org/songs:test cannot be loaded" in error.message
    assert "validation" in error.message


def test_a_ranked_data_set_is_read_and_a_wrong_row_named(tmp_path: Path, datasets: Any) -> None:
    rows = [{"prompt": f"Sing {n}.", "replies": RANKED} for n in range(3)]
    write(tmp_path / "good" / "train.parquet", rows)
    assert len(read_seeds(["hub:good"], tmp_path).seeds) == 3
    write(tmp_path / "bad" / "train.parquet", [*rows, {"prompt": "Hum.", "replies": RANKED[:1]}])
    assert "hub:bad row 4: " in refusal(["builtin", "hub:bad"], tmp_path).message


def test_offline_says_what_to_do(tmp_path: Path, datasets: Any) -> None:
    error = refusal(["hub:OpenAssistant/oasst1"], tmp_path)
    assert "hub:OpenAssistant/oasst1: the hub cannot be reached" in error.message
    assert "HF_HUB_OFFLINE" in error.hint


def test_a_data_set_that_does_not_exist_is_named(
    tmp_path: Path, datasets: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    def absent(*_: object, **__: object) -> None:
        raise datasets.exceptions.DatasetNotFoundError("Dataset 'org/none' doesn't exist on the Hub.\nMore.")

    monkeypatch.setattr(datasets, "load_dataset", absent)
    error = refusal(["hub:org/none"], tmp_path)
    assert error.message == "hub:org/none cannot be loaded: Dataset 'org/none' doesn't exist on the Hub."
    assert "hub:ORG/NAME" in error.hint


@pytest.mark.parametrize("name", ["hub:", "hub: ", "hub::train", "hub:bad name/..", "hub:a/b/c"])
def test_a_name_that_is_no_data_set_is_refused(name: str, tmp_path: Path, datasets: Any) -> None:
    assert name in refusal([name], tmp_path).message


def test_a_broken_or_empty_directory_is_refused(tmp_path: Path, datasets: Any) -> None:
    (tmp_path / "void").mkdir()
    assert "hub:void cannot be loaded" in refusal(["hub:void"], tmp_path).message
    (tmp_path / "broken").mkdir()
    (tmp_path / "broken" / "train.parquet").write_bytes(b"PAR1 and no more")
    assert "hub:broken" in refusal(["hub:broken"], tmp_path).message


def test_a_missing_datasets_is_said_with_the_command_that_installs_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "datasets", None)
    error = refusal(["hub:OpenAssistant/oasst1"], tmp_path)
    assert "datasets, which is not installed" in error.message
    assert "pip install" in error.hint
