"""Ranked replies: our own form, OpenAssistant trees, and which of them are held out."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from selfreward.errors import BadInput
from selfreward.seeds import SeedReading, read_seeds
from selfreward.seeds.splits import key_of, split_of
from selfreward.types import RankedReply, Seed, Split

SHARED = Path(__file__).resolve().parents[3] / "shared" / "data"

Read = Callable[..., SeedReading]
texts = st.text(st.characters(codec="utf-8"), max_size=40)
shares = st.floats(min_value=0, max_value=1)


@pytest.fixture
def read(tmp_path: Path) -> Read:
    """Reads records from a file; nothing is held out unless the test asks for it."""

    def reading(*records: Any, held_out: float = 0) -> SeedReading:
        (tmp_path / "seeds").write_text("".join(f"{json.dumps(record)}\n" for record in records))
        return read_seeds(["seeds"], tmp_path, held_out)

    return reading


def ranked(*replies: dict[str, Any], **changes: Any) -> dict[str, Any]:
    """A record in our own form, with two good replies where none are given."""
    default = ({"text": "Do re mi.", "rank": 0}, {"text": "No.", "rank": 1})
    return {"prompt": "Sing.", "replies": list(replies or default), **changes}


def tree(*replies: dict[str, Any], text: str = "A question?") -> dict[str, Any]:
    """An OpenAssistant tree; each reply is usable but for the keys given."""
    usable = {"lang": "en", "deleted": False, "synthetic": False, "review_result": True, "replies": []}
    full = [{**usable, "text": f"Reply {number}.", **given} for number, given in enumerate(replies)]
    return {"prompt": {**usable, "text": text, "replies": full}}


# Our own form


def test_a_ranked_record_gives_replies_best_first_and_the_best_as_answer(read: Read) -> None:
    worse = {"text": " No. \n", "rank": 3, "score": 1, "justification": " Too short. "}
    better = {"text": "Do re mi.", "rank": 0, "score": 4.5, "justification": None}
    tied = {"text": "La.", "rank": 3}
    assert read(ranked(worse, better, tied, id=7)).seeds == (
        Seed(
            instruction="Sing.",
            answer="Do re mi.",
            origin="seeds",
            replies=(
                RankedReply(text="Do re mi.", rank=0, score=4.5),
                RankedReply(text="No.", rank=3, score=1.0, justification="Too short."),
                RankedReply(text="La.", rank=3),
            ),
        ),
    )


def test_without_a_reply_at_rank_0_there_is_no_answer(read: Read) -> None:
    seed = read(ranked({"text": "La.", "rank": 1}, {"text": "No.", "rank": 2})).seeds[0]
    assert (seed.answer, len(seed.replies)) == (None, 2)


def test_a_record_says_itself_on_which_side_it_is(read: Read) -> None:
    records = ranked(split="held_out"), ranked(prompt="Hum.", split="train")
    for held_out in (0, 0.5, 1):
        splits = [seed.split for seed in read(*records, held_out=held_out).seeds]
        assert splits == [Split.HELD_OUT, Split.TRAIN]


def test_a_blank_or_overlong_ranked_record_is_counted(read: Read) -> None:
    long = {"text": "x" * 100_001, "rank": 1}
    reading = read(ranked(), ranked(prompt=" "), ranked({"text": "La.", "rank": 0}, long, prompt="Hum."))
    assert (len(reading.seeds), reading.skipped) == (1, {"empty": 1, "too_large": 1})


@pytest.mark.parametrize(
    ("record", "says"),
    [
        (ranked(replies=[]), "two or more"),
        (ranked({"text": "La.", "rank": 0}), "two or more"),
        (ranked({"text": "La.", "rank": 1}, {"text": "No.", "rank": 1}), "different ranks"),
        (ranked(replies=None), '"replies" must be a list'),
        (ranked({"text": " ", "rank": 0}), 'reply 1: "text" is empty'),
        (ranked({"text": "La.", "rank": 0}, {"rank": 1}), 'reply 2: "text" must be a string'),
        (ranked({"text": "La."}), '"rank" must be a whole number, 0 for the best, found None'),
        (ranked({"text": "La.", "rank": -1}), "found -1"),
        (ranked({"text": "La.", "rank": 0.5}), "found 0.5"),
        (ranked({"text": "La.", "rank": True}), "found True"),
        (ranked({"text": "La.", "rank": "0"}), "found '0'"),
        (ranked({"text": "La.", "rank": 0, "score": 5.1}), '"score" must be a number from 0 to 5'),
        (ranked({"text": "La.", "rank": 0, "score": float("nan")}), "found nan"),
        (ranked({"text": "La.", "rank": 0, "score": "4"}), "found '4'"),
        (ranked({"text": "La.", "rank": 0, "justification": 4}), '"justification" must be a string'),
        (ranked({"text": "La.", "rank": 0, "note": ""}), "'note'"),
        (ranked(split="test"), '"split" must be "train" or "held_out", found \'test\''),
        (ranked(completion="La."), "'completion'"),
    ],
)
def test_a_ranked_record_that_is_not_as_documented_is_refused_with_its_line(
    record: dict[str, Any], says: str, read: Read, tmp_path: Path
) -> None:
    with pytest.raises(BadInput) as caught:
        read(ranked(prompt="Hum."), record)
    assert f"{tmp_path / 'seeds'} line 2: " in caught.value.message
    assert says in caught.value.message
    assert "docs/seeds.md" in caught.value.hint


def test_what_ships_ranked_is_read_with_its_scores_reasons_and_splits() -> None:
    reading = read_seeds(["builtin:ranked"], Path("nowhere"))
    held_out = [seed for seed in reading.seeds if seed.split is Split.HELD_OUT]
    assert (len(reading.seeds), len(held_out), reading.skipped) == (120, 40, {})
    real = [reply for seed in reading.seeds for reply in seed.replies if reply.canary_of is None]
    assert len(real) == 480
    assert all(reply.score is not None and reply.justification for reply in real)
    assert all(seed.answer == seed.replies[0].text for seed in reading.seeds)


# OpenAssistant trees


def test_a_tree_gives_its_usable_replies_in_the_order_of_their_ranks(read: Read) -> None:
    record = tree({"rank": 2.0}, {"rank": 0}, {"rank": 5, "review_result": None}, {"rank": 0})
    (seed,) = read(record).seeds
    assert seed.answer == "Reply 1."
    assert [(reply.text, reply.rank) for reply in seed.replies] == [
        ("Reply 1.", 0),
        ("Reply 3.", 0),
        ("Reply 0.", 2),
        ("Reply 2.", 5),
    ]


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"lang": "de"}, "reply_not_english"),
        ({"deleted": True}, "reply_deleted"),
        ({"synthetic": True}, "reply_synthetic"),
        ({"review_result": False}, "reply_failed_review"),
        ({"text": " \n"}, "reply_empty"),
        ({"text": "x" * 100_001}, "reply_too_large"),
        ({"rank": None}, "reply_unranked"),
        ({"rank": -1}, "reply_unranked"),
        ({"rank": 1.5}, "reply_unranked"),
        ({"rank": "0"}, "reply_unranked"),
        ({"rank": False}, "reply_unranked"),
    ],
)
def test_a_reply_that_is_not_usable_is_left_out_and_counted(
    change: dict[str, Any], reason: str, read: Read
) -> None:
    reading = read(tree({"rank": 0}, {"rank": 3, **change}, {"rank": 1}))
    assert [reply.text for reply in reading.seeds[0].replies] == ["Reply 0.", "Reply 2."]
    assert reading.skipped == {reason: 1}


def test_a_tree_whose_best_reply_is_unusable_keeps_the_others_and_has_no_answer(read: Read) -> None:
    (seed,) = read(tree({"rank": 0, "deleted": True}, {"rank": 1}, {"rank": 2})).seeds
    assert (seed.answer, [reply.rank for reply in seed.replies]) == (None, [1, 2])


@pytest.mark.parametrize(
    ("replies", "skipped"),
    [
        ([{"rank": 0}], {"ranks_missing": 1}),
        ([{"rank": 0}, {"rank": None}], {"ranks_missing": 1, "reply_unranked": 1}),
        ([{"rank": 0}, {"rank": 0}], {"ranks_equal": 1}),
        ([{"rank": 0}, {"rank": 1, "lang": "fr"}], {"ranks_missing": 1, "reply_not_english": 1}),
    ],
)
def test_a_tree_without_an_order_keeps_its_answer_and_is_for_training(
    replies: list[dict[str, Any]], skipped: dict[str, int], read: Read
) -> None:
    reading = read(tree(*replies), held_out=1)
    assert reading.seeds == (Seed(instruction="A question?", answer="Reply 0.", origin="seeds"),)
    assert reading.skipped == skipped


def test_a_reply_of_ten_megabytes_is_counted(read: Read) -> None:
    giant = {"rank": 1, "text": "x" * 10_000_000}
    reading = read(tree({"rank": 0}, giant), tree({"rank": 0}, {"rank": 1}, text="Another?"))
    assert [seed.instruction for seed in reading.seeds] == ["Another?"]
    assert reading.skipped == {"too_large": 1}


@pytest.fixture(scope="module")
def real_trees() -> Path:
    path = SHARED / "oasst_trees_en_60.jsonl"
    if not path.exists():
        pytest.skip("no oasst_trees_en_60.jsonl in the shared data beside this checkout")
    return path


def test_the_real_trees_give_every_human_reply_in_order(real_trees: Path) -> None:
    reading = read_seeds([real_trees.name], real_trees.parent, held_out=0)
    assert (len(reading.seeds), reading.skipped) == (56, {"synthetic": 4})
    assert sum(len(seed.replies) for seed in reading.seeds) == 188
    for seed in reading.seeds:
        ranks = [reply.rank for reply in seed.replies]
        assert ranks == list(range(len(ranks))), seed.instruction
        assert seed.answer == seed.replies[0].text


def test_about_a_third_of_the_real_trees_is_held_out(real_trees: Path) -> None:
    seeds = read_seeds([real_trees.name], real_trees.parent).seeds
    held_out = [seed for seed in seeds if seed.split is Split.HELD_OUT]
    assert 0.2 < len(held_out) / len(seeds) < 0.45
    assert [seed.replies[-1].canary_of for seed in held_out] == [len(seed.replies) - 2 for seed in held_out]


@pytest.mark.parametrize("cut", [0.1, 0.5, 0.99])
def test_a_tree_file_cut_in_the_middle_is_refused_whole(real_trees: Path, cut: float, tmp_path: Path) -> None:
    data = real_trees.read_bytes()
    kept = data[: int(cut * len(data))]
    line = len(kept.split(b"\n"))
    (tmp_path / "cut.jsonl").write_bytes(kept)
    with pytest.raises(BadInput) as caught:
        read_seeds(["builtin", "cut.jsonl"], tmp_path)
    assert f"{tmp_path / 'cut.jsonl'} line {line}: " in caught.value.message
    assert "cut off" in caught.value.hint


# Splits


@given(text=texts, share=shares)
def test_case_and_spacing_do_not_move_a_text_to_the_other_side(text: str, share: float) -> None:
    spaced = f"  {text} ".replace(" ", " \n\t")
    assert split_of(spaced, share) is split_of(text, share)


@given(text=texts, one=shares, other=shares)
def test_a_greater_share_only_adds_held_out_texts(text: str, one: float, other: float) -> None:
    if split_of(text, min(one, other)) is Split.HELD_OUT:
        assert split_of(text, max(one, other)) is Split.HELD_OUT


@given(text=texts)
def test_a_share_of_0_holds_nothing_out_and_a_share_of_1_everything(text: str) -> None:
    assert (split_of(text, 0), split_of(text, 1)) == (Split.TRAIN, Split.HELD_OUT)


def test_the_share_is_met_over_many_texts() -> None:
    sides = [split_of(f"What is {number} squared?", 0.33) for number in range(4_000)]
    assert 0.30 < sides.count(Split.HELD_OUT) / len(sides) < 0.36


def test_the_side_of_a_text_never_changes_between_versions() -> None:
    """Runs of one version are compared with runs of another: their held-out prompts must be the same."""
    sides = [split_of(f"What is {number} squared?", 0.5).value[0] for number in range(12)]
    assert "".join(sides) == "hhhthhhhhtth"


@given(prompts=st.lists(texts.filter(str.strip), min_size=1, max_size=5, unique_by=key_of), share=shares)
def test_seeds_fall_on_the_side_of_their_text_whatever_else_is_read(
    tmp_path_factory: pytest.TempPathFactory, prompts: list[str], share: float
) -> None:
    folder = tmp_path_factory.mktemp("split")
    (folder / "all").write_text("".join(f"{json.dumps(ranked(prompt=p))}\n" for p in prompts))
    for seed in read_seeds(["builtin", "all"], folder, share).seeds[120:]:
        assert seed.split is split_of(seed.instruction, share)


def test_only_seeds_with_ranked_replies_are_held_out(read: Read) -> None:
    seeds = read({"instruction": "Dance.", "answer": "One, two."}, ranked(), held_out=1).seeds
    assert [seed.split for seed in seeds] == [Split.TRAIN, Split.HELD_OUT]


@pytest.mark.parametrize("order", [("train", "held_out"), ("held_out", "train")])
def test_of_an_instruction_on_both_sides_the_first_is_kept(order: tuple[str, str], read: Read) -> None:
    reading = read(ranked(split=order[0]), ranked(split=order[1], prompt="SING. "))
    assert [seed.split.value for seed in reading.seeds] == [order[0]]
    assert reading.skipped == {"duplicate": 1}


def test_an_answered_instruction_stays_for_training_when_it_comes_again_held_out(read: Read) -> None:
    reading = read({"instruction": "Sing.", "answer": "La."}, ranked(split="held_out"))
    assert reading.seeds == (Seed(instruction="Sing.", answer="La.", origin="seeds"),)


def test_a_bare_instruction_gives_way_to_its_ranked_form(read: Read) -> None:
    reading = read({"instruction": "Sing."}, ranked(split="held_out"))
    assert [(seed.split, bool(seed.replies)) for seed in reading.seeds] == [(Split.HELD_OUT, True)]
    assert reading.skipped == {"duplicate": 1}
