"""The seed reader on good, odd and broken files, and the quality of the seeds that ship."""

import gzip
import itertools
import json
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rouge_score.rouge_scorer import RougeScorer  # type: ignore[import-untyped]

from selfreward.config import SelfInstructSettings
from selfreward.errors import BadInput
from selfreward.seeds import SeedReading, read_seeds
from selfreward.seeds.skips import MAX_RECORD_BYTES
from selfreward.types import Seed

SHARED = Path(__file__).resolve().parents[3] / "shared" / "data"

MakeFile = Callable[..., str]


@pytest.fixture
def jsonl(tmp_path: Path) -> MakeFile:
    """Writes records (or raw lines) under a name in tmp_path and returns the name."""

    def make(*records: Any, name: str = "seeds.jsonl") -> str:
        lines = [record if isinstance(record, str) else json.dumps(record) for record in records]
        (tmp_path / name).write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")
        return name

    return make


def reply(**changes: Any) -> dict[str, Any]:
    """A usable best reply of a tree."""
    usable = {
        "text": "A reply.",
        "lang": "en",
        "rank": 0,
        "deleted": False,
        "synthetic": False,
        "replies": [],
    }
    return {**usable, "review_result": True, **changes}


def tree(*replies: dict[str, Any], **changes: Any) -> dict[str, Any]:
    """A usable OpenAssistant tree around `replies`."""
    prompt = {
        "text": "A question?",
        "lang": "en",
        "deleted": False,
        "synthetic": False,
        "review_result": True,
    }
    return {"message_tree_id": "t", "prompt": {**prompt, "replies": list(replies), **changes}}


def refusal(names: list[str], base: Path) -> BadInput:
    """The error that reading `names` raises."""
    with pytest.raises(BadInput) as caught:
        read_seeds(names, base)
    return caught.value


# What ships


@pytest.fixture(scope="module")
def builtin() -> SeedReading:
    return read_seeds(["builtin"], Path("nowhere"))


def test_the_builtin_seeds_are_many_answered_and_all_kept(builtin: SeedReading) -> None:
    assert len(builtin.seeds) >= 100
    assert builtin.skipped == {}
    assert {seed.origin for seed in builtin.seeds} == {"builtin"}
    assert all(seed.answer for seed in builtin.seeds)


def test_the_builtin_answers_are_short(builtin: SeedReading) -> None:
    assert [s.instruction for s in builtin.seeds if len((s.answer or "").split()) >= 120] == []


def test_the_builtin_instructions_pass_the_filters_of_self_instruct(builtin: SeedReading) -> None:
    words = "|".join(map(re.escape, SelfInstructSettings().forbidden_words))
    forbidden = re.compile(rf"\b({words})\b", re.IGNORECASE)
    for text in (seed.instruction for seed in builtin.seeds):
        assert 5 <= len(text.split()) <= 60, text
        assert not forbidden.search(text), text
        assert not text.lower().startswith("write a program"), text
        assert text[0].isascii() and text[0].isalnum(), text


def test_the_builtin_instructions_are_far_apart(builtin: SeedReading) -> None:
    scorer = RougeScorer(["rougeL"])
    for one, other in itertools.combinations(builtin.seeds, 2):
        score = scorer.score(one.instruction, other.instruction)["rougeL"].fmeasure
        assert score <= 0.7, (score, one.instruction, other.instruction)


def test_the_builtin_instructions_begin_in_many_ways(builtin: SeedReading) -> None:
    beginnings = {tuple(seed.instruction.split()[:2]) for seed in builtin.seeds}
    assert len(beginnings) > len(builtin.seeds) / 2


# Plain JSONL


def test_plain_seeds_keep_order_and_take_an_answer_or_none(tmp_path: Path, jsonl: MakeFile) -> None:
    name = jsonl(
        {"instruction": " Say hello. ", "answer": "Hello!\n"},
        "",
        {"instruction": "Say nothing.", "answer": None},
        {"instruction": "Say a bit.", "answer": "  ", "id": 7, "source": "me"},
    )
    assert read_seeds([name], tmp_path).seeds == (
        Seed(instruction="Say hello.", answer="Hello!", origin=name),
        Seed(instruction="Say nothing.", answer=None, origin=name),
        Seed(instruction="Say a bit.", answer=None, origin=name),
    )


def test_duplicates_are_dropped_and_counted_over_all_files(tmp_path: Path, jsonl: MakeFile) -> None:
    first = jsonl({"instruction": "Say hello."}, {"instruction": "say  HELLO.", "answer": "Hi."}, name="a")
    second = jsonl({"instruction": "Say hello.", "answer": "Good day."}, {"instruction": "Sing."}, name="b")
    reading = read_seeds([first, second], tmp_path)
    assert [(seed.instruction, seed.answer) for seed in reading.seeds] == [
        ("say  HELLO.", "Hi."),
        ("Sing.", None),
    ]
    assert reading.skipped == {"duplicate": 2}


def test_a_blank_instruction_is_skipped(tmp_path: Path, jsonl: MakeFile) -> None:
    reading = read_seeds([jsonl({"instruction": " \n"}, {"instruction": "Sing."})], tmp_path)
    assert (len(reading.seeds), reading.skipped) == (1, {"empty": 1})


def test_absolute_paths_byte_order_marks_and_windows_lines_are_read(tmp_path: Path) -> None:
    path = tmp_path / "seeds.jsonl"
    path.write_bytes(
        b'\xef\xbb\xbf{"instruction": "Sing."}\r\n\r\n{"instruction": "Dance \xe2\x80\xa8 now."}'
    )
    reading = read_seeds([str(path)], Path("nowhere"))
    assert [seed.instruction for seed in reading.seeds] == ["Sing.", "Dance \u2028 now."]


def test_gzip_is_told_by_content_not_by_name(tmp_path: Path, jsonl: MakeFile) -> None:
    (tmp_path / "zipped.jsonl").write_bytes(gzip.compress(b'{"instruction": "Sing."}\n'))
    plain = jsonl({"instruction": "Dance."}, name="plain.gz")
    reading = read_seeds(["zipped.jsonl", plain], tmp_path)
    assert [seed.instruction for seed in reading.seeds] == ["Sing.", "Dance."]


@given(texts=st.lists(st.text(st.characters(codec="utf-8"), min_size=1), min_size=1, unique=True))
def test_any_text_survives_the_reading(tmp_path_factory: pytest.TempPathFactory, texts: list[str]) -> None:
    path = tmp_path_factory.mktemp("any") / "seeds.jsonl"
    rows = [{"instruction": f"{number} {text}|", "answer": f"{text}."} for number, text in enumerate(texts)]
    path.write_text("\n".join(json.dumps(row, ensure_ascii=False) for row in rows), "utf-8", newline="\n")
    seeds = read_seeds([path.name], path.parent).seeds
    assert [(s.instruction, s.answer) for s in seeds] == [
        (row["instruction"], row["answer"].strip()) for row in rows
    ]


# Self-Instruct tasks


def test_a_task_joins_instruction_and_input_by_a_blank_line(tmp_path: Path, jsonl: MakeFile) -> None:
    task = {
        "id": "seed_task_0",
        "name": "sums",
        "is_classification": False,
        "instruction": "Add the numbers.",
    }
    instances = [{"input": "1 and 2", "output": "3"}, {"input": "", "output": "Which ones?"}]
    reading = read_seeds([jsonl({**task, "instances": instances}, {**task, "instances": []})], tmp_path)
    assert [(seed.instruction, seed.answer) for seed in reading.seeds] == [
        ("Add the numbers.\n\n1 and 2", "3"),
        ("Add the numbers.", "Which ones?"),
    ]
    assert reading.skipped == {"no_instance": 1}


def test_the_real_self_instruct_tasks_are_read() -> None:
    path = SHARED / "self_instruct_seed_tasks.jsonl"
    if not path.exists():
        pytest.skip("no self_instruct_seed_tasks.jsonl in the shared data beside this checkout")
    tasks = [json.loads(line) for line in path.read_text("utf-8").splitlines()]
    reading = read_seeds([path.name], SHARED)
    assert len(reading.seeds) + sum(reading.skipped.values()) == len(tasks) == 175
    assert set(reading.skipped) <= {"duplicate"}
    with_input = next(task for task in tasks if task["instances"][0]["input"])
    joined = f"{with_input['instruction']}\n\n{with_input['instances'][0]['input']}".strip()
    assert joined in {seed.instruction for seed in reading.seeds}
    assert all(seed.answer for seed in reading.seeds)


# OpenAssistant trees


def test_a_tree_gives_its_first_turn_and_the_best_reply(tmp_path: Path, jsonl: MakeFile) -> None:
    better = reply(text="The best reply.", replies=[reply(text="A follow-up.")])
    name = jsonl(tree(reply(rank=None), better))
    reading = read_seeds([name], tmp_path)
    assert reading.seeds == (Seed(instruction="A question?", answer="The best reply.", origin=name),)
    assert reading.skipped == {"ranks_missing": 1, "reply_unranked": 1}


def test_a_tree_without_a_review_is_kept(tmp_path: Path, jsonl: MakeFile) -> None:
    name = jsonl(tree(reply(review_result=None), review_result=None))
    assert len(read_seeds([name], tmp_path).seeds) == 1


@pytest.mark.parametrize(
    ("record", "reason"),
    [
        (tree(reply(), lang="de"), "not_english"),
        (tree(reply(), deleted=True), "deleted"),
        (tree(reply(), synthetic=True), "synthetic"),
        (tree(reply(), review_result=False), "failed_review"),
        (tree(reply(), text=" "), "empty"),
        (tree(reply(), text="x" * 100_001), "too_large"),
        (tree(), "no_ranked_reply"),
        (tree(reply(rank=1)), "no_ranked_reply"),
        (tree(reply(rank=1), reply(rank=1)), "no_ranked_reply"),
    ],
)
def test_a_tree_that_is_not_wanted_is_counted_by_reason(
    record: dict[str, Any], reason: str, tmp_path: Path, jsonl: MakeFile
) -> None:
    reading = read_seeds([jsonl(record, {"instruction": "Sing."})], tmp_path)
    assert [seed.instruction for seed in reading.seeds] == ["Sing."]
    assert reading.skipped == {reason: 1}


def test_the_real_trees_are_read_gzipped_or_not(tmp_path: Path) -> None:
    path = SHARED / "oasst_trees_en_60.jsonl"
    if not path.exists():
        pytest.skip("no oasst_trees_en_60.jsonl in the shared data beside this checkout")
    reading = read_seeds([path.name], SHARED)
    assert len(reading.seeds) == 56
    assert reading.skipped == {"synthetic": 4}
    (tmp_path / path.name).write_bytes(gzip.compress(path.read_bytes()))
    assert read_seeds([path.name], tmp_path) == reading


# Records that are too large


@pytest.mark.parametrize("zipped", [False, True])
def test_a_record_above_eight_megabytes_is_skipped_and_counted(tmp_path: Path, zipped: bool) -> None:
    frame = len('{"instruction": "Hum.", "source": ""}')
    fits = json.dumps({"instruction": "Hum.", "source": "x" * (MAX_RECORD_BYTES - frame)})
    over = json.dumps({"instruction": "Yawn", "source": "y" * (MAX_RECORD_BYTES - frame + 1)})
    huge = json.dumps({"instruction": "z" * (2 * MAX_RECORD_BYTES + 1_000_000)})
    data = "\n".join([over, fits, huge, '{"instruction": "Sing."}', huge]).encode()
    (tmp_path / "seeds").write_bytes(gzip.compress(data, 1) if zipped else data)
    reading = read_seeds(["seeds"], tmp_path)
    assert [seed.instruction for seed in reading.seeds] == ["Hum.", "Sing."]
    assert reading.skipped == {"too_large": 3}


def test_a_text_above_100_kb_is_skipped_and_counted(tmp_path: Path, jsonl: MakeFile) -> None:
    fits = {"instruction": "é" * 50_000, "answer": "a" * 100_000}
    name = jsonl(fits, {"instruction": "Sing.", "answer": "é" * 50_001}, {"instruction": "x" * 100_001})
    reading = read_seeds([name], tmp_path)
    assert [len(seed.instruction) for seed in reading.seeds] == [50_000]
    assert reading.skipped == {"too_large": 2}


# Bad input

GOOD = b'{"instruction": "Sing.", "answer": "La."}\n'


@pytest.mark.parametrize(
    ("data", "line", "says"),
    [
        (b"", 1, "empty"),
        (b"\n \n", 1, "empty"),
        (gzip.compress(b""), 1, "empty"),
        (GOOD + GOOD[:20], 2, "broken JSON"),
        (GOOD + b"\n" + GOOD[:-2] + b"\n" + GOOD, 3, "broken JSON"),
        (b'[\n  {"instruction": "Sing."}\n]\n', 1, "broken JSON"),
        (GOOD + b'{"instruction": "caf\xe9"}\n', 2, "not UTF-8"),
        (GOOD + '{"instruction": "café'.encode()[:-1], 2, "not UTF-8"),
        (GOOD.decode().encode("utf-16"), 1, "not UTF-8"),
        (GOOD + b'{"instruction": ' + b"[" * 100_000 + b"}\n", 2, "JSON"),
        (GOOD + b'{"instruction": ' + b"9" * 5_000 + b"}\n", 2, "JSON"),
        (GOOD + b'{"instruction": "Smile \\ud83d"}\n', 2, "lone surrogate"),
        (GOOD + b'{"question": "Sing?"}\n', 2, "'question'"),
        (GOOD + b"{}\n", 2, "not a seed"),
        (b'[{"instruction": "Sing."}]\n', 1, "found list"),
        (b'{"instruction": "Sum up.", "input": "A text.", "output": "Text."}\n', 1, "'input', 'output'"),
        (b'{"instruction": 5}\n', 1, '"instruction" must be a string'),
        (b'{"instruction": "Sing.", "answer": ["La."]}\n', 1, '"answer" must be a string'),
        (b'{"instruction": "Sing.", "instances": {"input": ""}}\n', 1, '"instances"'),
        (b'{"instruction": "Sing.", "instances": [{"input": ""}]}\n', 1, '"output"'),
        (b'{"prompt": "Sing.", "completion": "La."}\n', 1, "'completion'"),
        (b'{"prompt": ["Sing."], "replies": []}\n', 1, '"prompt" must be a string'),
        (b'{"prompt": {"text": "Sing.", "lang": "en"}}\n', 1, '"replies"'),
        (b'{"prompt": {"text": "Sing.", "replies": []}}\n', 1, '"lang"'),
        (gzip.compress(GOOD)[:20], 1, "broken gzip"),
        (b"\x1f\x8b and then no gzip", 1, "broken gzip"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_a_broken_file_is_refused_with_file_line_and_a_way_out(
    data: bytes, line: int, says: str, tmp_path: Path
) -> None:
    (tmp_path / "broken.jsonl").write_bytes(data)
    error = refusal(["builtin", "broken.jsonl"], tmp_path)
    assert f"{tmp_path / 'broken.jsonl'} line {line}: " in error.message
    assert says in error.message
    assert error.hint


@pytest.mark.parametrize("name", ["absent.jsonl", "", "nul\0.jsonl", "../absent/seeds.jsonl"])
def test_a_missing_file_is_named(name: str, tmp_path: Path) -> None:
    error = refusal(["builtin", name], tmp_path)
    assert str(tmp_path / name) in error.message
    assert "builtin" in error.hint


def test_no_names_and_no_usable_record_are_refused(tmp_path: Path, jsonl: MakeFile) -> None:
    assert "seeds.files is empty" in refusal([], tmp_path).message
    name = jsonl(tree(reply(), lang="de"), tree(reply(), lang="fr"), tree())
    assert "2 not_english" in refusal([name], tmp_path).message


@given(cut=st.integers(min_value=1, max_value=2 * len(GOOD) - 2))
def test_a_file_cut_anywhere_is_refused_or_ends_at_a_record(
    tmp_path_factory: pytest.TempPathFactory, cut: int
) -> None:
    folder = tmp_path_factory.mktemp("cut")
    second = GOOD.replace(b"Sing", b"Hum!")
    (folder / "cut").write_bytes((GOOD + second)[:cut])
    if cut in (len(GOOD) - 1, len(GOOD), 2 * len(GOOD) - 1):
        assert read_seeds(["cut"], folder).seeds
    else:
        assert f"line {1 if cut < len(GOOD) else 2}: broken JSON" in refusal(["cut"], folder).message


def test_reading_seeds_loads_no_heavy_library() -> None:
    code = (
        "import sys, selfreward.seeds; "
        "print({'torch', 'transformers', 'datasets', 'pyarrow', 'numpy'} & set(sys.modules))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert (done.stdout, done.stderr) == ("set()\n", "")
