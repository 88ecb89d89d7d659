"""Readers of preferences: TRL's format, hh-rlhf's transcripts, trees; what is left out has its reason."""

import gzip
import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from selfreward.errors import BadInput
from selfreward.importing.reader import PreferenceFormat, read_preferences
from selfreward.importing.trl import from_trl
from selfreward.types import Preference

SHARED = Path(__file__).resolve().parents[3] / "shared" / "data"
TREES = SHARED / "oasst_trees_en_60.jsonl"

GOOD = Preference(prompt="Name a tree.", chosen="Oak.", rejected="Fish.")
said = st.text(st.characters(codec="utf-8"), min_size=1, max_size=30).filter(str.strip)


def read(path: Path, *records: Any, form: PreferenceFormat | None = None) -> list[Any]:
    """What a file with these records gives."""
    file = path / "prefs.jsonl"
    file.write_text("".join(f"{json.dumps(record)}\n" for record in records))
    return list(read_preferences("prefs.jsonl", path, form))


def user(text: str) -> dict[str, str]:
    return {"role": "user", "content": text}


def assistant(text: str) -> dict[str, str]:
    return {"role": "assistant", "content": text}


def transcript(*turns: str) -> str:
    speakers = ("Human", "Assistant") * len(turns)
    return "".join(f"\n\n{speaker}: {turn}" for speaker, turn in zip(speakers, turns, strict=False))


# TRL


@pytest.mark.parametrize(
    "record",
    [
        {"prompt": "Name a tree.", "chosen": "Oak.", "rejected": "Fish."},
        {"prompt": [user("Name a tree.")], "chosen": [assistant("Oak.")], "rejected": [assistant("Fish.")]},
        {
            "chosen": [user("Name a tree."), assistant("Oak.")],
            "rejected": [user("Name a tree."), assistant("Fish.")],
        },
        {
            "prompt": "Name a tree.",
            "prompt_id": "ab12",
            "messages": [],
            "chosen": [user("Name a tree."), assistant("Oak.")],
            "rejected": [user("Name a tree."), assistant("Fish.")],
        },
    ],
    ids=["texts", "turns", "implicit prompt", "prompt twice, other columns"],
)
def test_each_form_of_trl_gives_the_same_preference(record: dict[str, Any], tmp_path: Path) -> None:
    assert read(tmp_path, record) == [GOOD]


def test_a_reference_is_kept_and_must_be_a_text(tmp_path: Path) -> None:
    texts = {"prompt": "Name a tree.", "chosen": "Oak.", "rejected": "Fish."}
    with_one, without = read(tmp_path, {**texts, "reference": "Ash."}, {**texts, "reference": None})
    assert (with_one.reference, without.reference) == ("Ash.", None)
    with pytest.raises(BadInput, match='"reference" must be a text'):
        read(tmp_path, {**texts, "reference": 7})


def test_scores_and_soft_labels_are_kept_under_both_names(tmp_path: Path) -> None:
    texts = {"prompt": "Name a tree.", "chosen": "Oak.", "rejected": "Fish."}
    ours = {**texts, "chosen_score": 4.5, "rejected_score": 1, "soft_label": 0.8}
    theirs = {**texts, "score_chosen": 9.0, "score_rejected": 2.5}
    first, second = read(tmp_path, ours, theirs)
    assert (first.chosen_score, first.rejected_score, first.soft_label) == (4.5, 1.0, 0.8)
    assert (second.chosen_score, second.rejected_score, second.soft_label) == (9.0, 2.5, None)


@given(prompt=said, chosen=said, rejected=said)
def test_texts_come_through_as_they_are(prompt: str, chosen: str, rejected: str) -> None:
    found = from_trl({"prompt": prompt, "chosen": chosen, "rejected": rejected})
    if isinstance(found, Preference):
        assert (found.prompt, found.chosen, found.rejected) == (prompt, chosen, rejected)
    else:
        assert chosen.split() == rejected.split(), "only twins are left out"


@pytest.mark.parametrize(
    ("record", "reason"),
    [
        ({"prompt": "A?", "chosen": "Same. ", "rejected": "Same."}, "same_text"),
        ({"prompt": "A?", "chosen": "One\r\ntwo.", "rejected": "One\ntwo."}, "same_text"),
        ({"prompt": " ", "chosen": "B.", "rejected": "C."}, "empty"),
        ({"prompt": "A?", "chosen": "", "rejected": "C."}, "empty"),
        ({"prompt": "A?", "chosen": "B" * 200_000, "rejected": "C."}, "too_large"),
        ({"chosen": [assistant("B.")], "rejected": [assistant("C.")]}, "no_prompt"),
        (
            {
                "prompt": [user("A?"), assistant("B."), user("C?")],
                "chosen": [assistant("D.")],
                "rejected": [assistant("E.")],
            },
            "several_turns",
        ),
        (
            {"prompt": "A?", "chosen": [assistant("D."), user("So?")], "rejected": [assistant("E.")]},
            "no_reply",
        ),
        (
            {
                "prompt": [{"role": "system", "content": "Be brief."}, user("A?")],
                "chosen": [assistant("D.")],
                "rejected": [assistant("E.")],
            },
            "system_message",
        ),
    ],
)
def test_what_is_no_single_turn_preference_is_left_out(
    record: dict[str, Any], reason: str, tmp_path: Path
) -> None:
    assert read(tmp_path, record) == [reason]


@pytest.mark.parametrize(
    ("record", "said"),
    [
        ({"prompt": "A?", "chosen": 3, "rejected": "C."}, '"chosen" must be a text or a list of turns'),
        ({"prompt": "A?", "chosen": [{"role": "gpt", "content": "B."}], "rejected": "C."}, "role"),
        ({"prompt": "A?", "chosen": "B.", "rejected": "C.", "soft_label": 1.5}, "from 0 to 1"),
        ({"prompt": "A?", "chosen": "B.", "rejected": "C.", "chosen_score": "high"}, "must be a number"),
        ({"prompt": "A?", "chosen": "\ud83d", "rejected": "C."}, "half a character"),
        ({"instruction": "A?", "output": "B."}, "the keys 'instruction', 'output'"),
        (["A?"], "expected a JSON object"),
    ],
)
def test_what_cannot_be_understood_is_named_with_file_and_line(
    record: Any, said: str, tmp_path: Path
) -> None:
    with pytest.raises(BadInput, match=r"prefs\.jsonl line 2") as refused:
        read(tmp_path, {"prompt": "A?", "chosen": "B.", "rejected": "C."}, record)
    assert said in refused.value.message and "imports" not in refused.value.message
    assert "import it again" in refused.value.hint


# hh-rlhf


def test_transcripts_of_one_turn_are_taken_and_longer_ones_left_out(tmp_path: Path) -> None:
    long = ("Hello!", "Hello, how can I help?", "Name a tree.")
    records = [
        {"chosen": transcript("Name a tree.", "Oak."), "rejected": transcript("Name a tree.", "Fish.")},
        {"chosen": transcript(*long, "Oak."), "rejected": transcript(*long, "Fish.")},
        {"chosen": transcript("Name a tree.", "Oak."), "rejected": transcript("Name a fish.", "Fish.")},
        {"chosen": transcript("Name a tree."), "rejected": transcript("Name a tree.", "Fish.")},
        {"chosen": "Oak.", "rejected": "Fish."},
    ]
    assert read(tmp_path, *records) == [GOOD, "several_turns", "no_prompt", "no_prompt", "no_prompt"]


def test_a_reply_may_have_paragraphs_and_speak_of_humans(tmp_path: Path) -> None:
    reply = "First.\n\nSecond: Humans: fine.\n\nHumanity: fine."
    [found] = read(tmp_path, {"chosen": transcript("A?", reply), "rejected": transcript("A?", "No.")})
    assert found.chosen == reply


def test_gzip_is_read_and_the_format_can_be_said(tmp_path: Path) -> None:
    record = {"chosen": transcript("Name a tree.", "Oak."), "rejected": transcript("Name a tree.", "Fish.")}
    with gzip.open(tmp_path / "train.jsonl.gz", "wt") as stream:
        stream.write(json.dumps(record))
    assert list(read_preferences("train.jsonl.gz", tmp_path, PreferenceFormat.HH)) == [GOOD]
    with pytest.raises(BadInput, match=r"line 1.*no tree"):
        list(read_preferences("train.jsonl.gz", tmp_path, PreferenceFormat.OASST))


# Trees


def tree(*replies: tuple[str, int | None], **given: Any) -> dict[str, Any]:
    usable = {"lang": "en", "deleted": False, "synthetic": False, "review_result": True}
    full = [{**usable, "text": text, "rank": rank, "replies": []} for text, rank in replies]
    return {"prompt": {**usable, "text": "Name a tree.", "replies": full, **given}}


def test_every_two_replies_of_different_rank_are_a_pair(tmp_path: Path) -> None:
    found = read(tmp_path, tree(("Elm.", 1), ("Oak.", 0), ("Ash.", 1), ("Fish.", 2), ("Hm.", None)))
    pairs = [(each.chosen, each.rejected) for each in found if isinstance(each, Preference)]
    assert pairs == [
        ("Oak.", "Elm."),
        ("Oak.", "Ash."),
        ("Oak.", "Fish."),
        ("Elm.", "Fish."),
        ("Ash.", "Fish."),
    ]
    assert [each for each in found if isinstance(each, str)] == ["reply_unranked"]


def test_a_tree_without_order_or_in_another_language_gives_its_reason(tmp_path: Path) -> None:
    found = read(tmp_path, tree(("Elm.", 0), ("Oak.", 0)), tree(("Elm.", 0), ("Oak.", 1), lang="de"))
    assert found == ["ranks_equal", "not_english"]


def test_ranked_replies_of_our_own_form_bring_scores_and_what_is_held_out_stays_out() -> None:
    found = list(read_preferences("builtin:ranked", Path()))
    pairs = [each for each in found if isinstance(each, Preference)]
    assert "held_out" in found and len(pairs) > 100
    assert all((each.chosen_score or 0) >= (each.rejected_score or 0) for each in pairs)


@pytest.mark.skipif(not TREES.exists(), reason="the shared OpenAssistant trees are not here")
def test_real_trees_give_pairs_of_their_first_turns() -> None:
    found = list(read_preferences(TREES.name, SHARED))
    pairs = [each for each in found if isinstance(each, Preference)]
    prompts = {json.loads(line)["prompt"]["text"].strip() for line in TREES.read_text().splitlines()}
    assert len(pairs) > 50 and {pair.prompt for pair in pairs} <= prompts
    assert len({(pair.prompt, pair.chosen, pair.rejected) for pair in pairs}) == len(pairs)


# Files


def test_parquet_gives_what_json_lines_give(tmp_path: Path) -> None:
    pyarrow = pytest.importorskip("pyarrow")
    from pyarrow import parquet

    record = {"chosen": [user("Name a tree."), assistant("Oak.")], "score_chosen": 3.0}
    record |= {"rejected": [user("Name a tree."), assistant("Fish.")], "score_rejected": 1.0}
    parquet.write_table(pyarrow.Table.from_pylist([record]), tmp_path / "prefs.parquet")
    [found] = read_preferences("prefs.parquet", tmp_path)
    assert (found.prompt, found.chosen_score) == ("Name a tree.", 3.0)


def test_missing_empty_and_broken_files_say_so(tmp_path: Path) -> None:
    (tmp_path / "empty.jsonl").touch()
    (tmp_path / "cut.jsonl").write_text('{"prompt": "A?", "chosen": "B.", "rejected": "C."}\n{"prompt": "A')
    for name, said in (("none.jsonl", "does not exist"), ("empty.jsonl", "empty"), ("cut.jsonl", "line 2")):
        with pytest.raises(BadInput, match=said):
            list(read_preferences(name, tmp_path))
