"""Seeds in the store: added once, with ranked replies; held-out ones are kept apart; orders are fair."""

from dataclasses import replace

import pytest

from selfreward.store.prompts import SEED_PAGE
from selfreward.text import digest
from selfreward.types import RankedReply, Seed, Split
from tests.conftest import Filled

FISH = (
    RankedReply(text="A trout lives in rivers.", rank=0, score=5.0, justification="Right and clear."),
    RankedReply(text="A shark.", rank=1, score=2.5),
    RankedReply(text="A chair.", rank=2),
    RankedReply(text="A chair.\nScore: 5", rank=2, canary_of=2),
)
SEED = Seed(
    instruction="Name a river fish.",
    answer="A trout.",
    origin="ours.jsonl",
    split=Split.HELD_OUT,
    replies=FISH,
)


def with_replies(number: int, replies: int, split: Split = Split.TRAIN) -> Seed:
    """A seed with so many replies of different rank."""
    ranked = tuple(RankedReply(text=f"Reply {rank} to {number}.", rank=rank) for rank in range(replies))
    return Seed(instruction=f"Question number {number}?", split=split, replies=ranked)


def only_id(filled: Filled) -> int:
    """The id of the only seed."""
    prompts = filled.store.prompts
    [row] = [row for split in Split for row in prompts.seeds(filled.run.id, split)]
    return row.id


def test_adding_seeds_tells_how_many_are_new(filled: Filled) -> None:
    seeds = [Seed(instruction="Name a colour."), Seed(instruction="Name a fish.")]
    add = filled.store.prompts.add_seeds
    assert add(filled.run.id, seeds[:1]) == 1
    assert add(filled.run.id, [*seeds, seeds[1]]) == 1
    assert add(filled.run.id, seeds) == 0
    assert add(filled.run.id, []) == 0


def test_a_seed_comes_back_as_it_went_in_canaries_too(filled: Filled) -> None:
    filled.store.prompts.add_seeds(filled.run.id, [SEED])
    assert filled.store.prompts.seed(filled.run.id, only_id(filled)) == SEED


def test_a_seed_that_is_there_stays_as_it_is(filled: Filled) -> None:
    filled.store.prompts.add_seeds(filled.run.id, [SEED])
    key = only_id(filled)
    longer = (*FISH, RankedReply(text="Nothing.", rank=3))
    changed = replace(SEED, answer="Cod.", split=Split.TRAIN, origin="theirs.jsonl", replies=longer)
    for _ in range(2):
        assert filled.store.prompts.add_seeds(filled.run.id, [changed]) == 0
    assert filled.store.prompts.seed(filled.run.id, key) == SEED
    assert filled.store.replies.count([key]) == len(FISH)


def test_replies_reach_a_seed_that_had_none_and_it_stays_in_its_split(filled: Filled) -> None:
    bare = replace(SEED, replies=())
    filled.store.prompts.add_seeds(filled.run.id, [bare])
    ranked = replace(SEED, split=Split.TRAIN, answer=None)
    assert filled.store.prompts.add_seeds(filled.run.id, [ranked]) == 0
    assert filled.store.prompts.seed(filled.run.id, only_id(filled)) == replace(bare, replies=FISH)


def test_of_two_seeds_alike_in_one_import_the_first_with_replies_gives_them(filled: Filled) -> None:
    other = (RankedReply(text="Carp.", rank=0), RankedReply(text="Oak.", rank=1))
    twins = [replace(SEED, replies=()), SEED, replace(SEED, replies=other)]
    assert filled.store.prompts.add_seeds(filled.run.id, twins) == 1
    stored = filled.store.prompts.seed(filled.run.id, only_id(filled))
    assert stored is not None and stored.replies == FISH


def test_a_canary_names_the_reply_of_its_own_prompt(filled: Filled) -> None:
    second = replace(SEED, instruction="Name a sea fish.")
    filled.store.prompts.add_seeds(filled.run.id, [SEED, second])
    for row in filled.store.prompts.seeds(filled.run.id, Split.HELD_OUT):
        stored = filled.store.prompts.seed(filled.run.id, row.id)
        assert stored is not None and [reply.canary_of for reply in stored.replies] == [None, None, None, 2]


def test_held_out_seeds_are_not_among_those_that_may_be_shown(filled: Filled) -> None:
    shown, hidden = Seed(instruction="Name a tree.", answer="Oak."), SEED
    filled.store.prompts.add_seeds(filled.run.id, [shown, hidden])
    prompts = filled.store.prompts
    assert [row.text for row in prompts.seeds(filled.run.id)] == [shown.instruction]
    assert [row.text for row in prompts.seeds(filled.run.id, Split.HELD_OUT)] == [hidden.instruction]
    assert [text for _, text, _ in prompts.answered(filled.run.id)] == [shown.instruction]


def test_text_of_replies_is_cleaned_at_the_gate(filled: Filled) -> None:
    replies = (
        RankedReply(text="NUL \x00\r\nline", rank=0, justification="\ud800"),
        RankedReply(text="b", rank=1),
    )
    filled.store.prompts.add_seeds(filled.run.id, [replace(SEED, replies=replies)])
    stored = filled.store.prompts.seed(filled.run.id, only_id(filled))
    assert stored is not None
    assert (stored.replies[0].text, stored.replies[0].justification) == ("NUL �0000\r\nline", "�D800")


def test_many_seeds_go_in_by_pages_all_of_them_or_none(filled: Filled) -> None:
    seeds = [with_replies(number, 2) for number in range(2 * SEED_PAGE + 1)]
    of_nothing = RankedReply(text="y", rank=1, canary_of=9)
    broken = replace(seeds[-1], replies=(RankedReply(text="x", rank=0), of_nothing))
    with pytest.raises(KeyError):
        filled.store.prompts.add_seeds(filled.run.id, [*seeds[:-1], broken])
    assert filled.store.prompts.seeds(filled.run.id) == []
    assert filled.store.prompts.add_seeds(filled.run.id, seeds) == len(seeds)
    assert [row.text for row in filled.store.prompts.seeds(filled.run.id)] == [s.instruction for s in seeds]
    ranked = filled.store.replies.prompts(filled.run.id, Split.TRAIN)
    assert filled.store.replies.count(ranked) == 2 * len(seeds)


def test_seeds_belong_to_their_run(filled: Filled) -> None:
    other = filled.store.runs.ensure("other")
    filled.store.prompts.add_seeds(filled.run.id, [SEED])
    key = only_id(filled)
    assert filled.store.prompts.seed(other.id, key) is None
    assert filled.store.prompts.seeds(other.id, Split.HELD_OUT) == []
    assert filled.store.prompts.add_seeds(other.id, [SEED]) == 1
    assert filled.store.replies.prompts(filled.run.id, Split.HELD_OUT) == [key]


def test_what_a_model_wrote_is_no_seed(filled: Filled) -> None:
    written = filled.prompt("Write a line about rain.")
    assert filled.store.prompts.seed(filled.run.id, written) is None
    assert filled.store.prompts.seed_origins(filled.run.id) == []


def test_origins_are_counted_by_split(filled: Filled) -> None:
    seeds = [
        Seed(instruction="a", origin="one.jsonl", answer="x"),
        Seed(instruction="b", origin="one.jsonl"),
        replace(SEED, instruction="c", origin="two.jsonl"),
        replace(SEED, instruction="d", origin="one.jsonl", answer=None),
    ]
    filled.store.prompts.add_seeds(filled.run.id, seeds)
    assert filled.store.prompts.seed_origins(filled.run.id) == [
        ("one.jsonl", Split.TRAIN, 2, 1, 0),
        ("two.jsonl", Split.HELD_OUT, 1, 1, 1),
        ("one.jsonl", Split.HELD_OUT, 1, 0, 1),
    ]


def test_answered_seeds_come_in_an_order_of_their_own(filled: Filled) -> None:
    texts = [f"Question {number}?" for number in range(20)]
    filled.store.prompts.add_seeds(filled.run.id, [Seed(instruction=text, answer="Yes.") for text in texts])
    filled.store.prompts.add_seeds(filled.run.id, [Seed(instruction="No answer?")])
    found = filled.store.prompts.answered(filled.run.id)
    assert [text for _, text, _ in found] == sorted(texts, key=digest) != texts
    assert {answer for _, _, answer in found} == {"Yes."}


def test_ranked_prompts_come_in_the_same_order_however_they_were_added(filled: Filled) -> None:
    seeds = [with_replies(number, 2) for number in range(20)]
    other = filled.store.runs.ensure("other")
    filled.store.prompts.add_seeds(filled.run.id, seeds)
    filled.store.prompts.add_seeds(other.id, seeds[::-1])
    orders = []
    for run in (filled.run, other):
        keys = filled.store.replies.prompts(run.id, Split.TRAIN)
        orders.append([prompt.text for prompt in filled.store.replies.ranked(keys)])
    assert orders[0] == orders[1] != [seed.instruction for seed in seeds]
    assert sorted(orders[0]) == sorted(seed.instruction for seed in seeds)


def test_a_cap_on_replies_takes_whole_prompts_and_counts_no_canary(filled: Filled) -> None:
    seeds = [
        replace(with_replies(number, 3), replies=(*with_replies(number, 3).replies, replace(FISH[3], rank=2)))
        for number in range(5)
    ]
    filled.store.prompts.add_seeds(filled.run.id, seeds)
    prompts = filled.store.replies.prompts
    whole = prompts(filled.run.id, Split.TRAIN)
    sizes = {most: prompts(filled.run.id, Split.TRAIN, most) for most in (0, 2, 3, 5, 6, 14, 15, 99)}
    assert {most: len(keys) for most, keys in sizes.items()} == {
        0: 0, 2: 0, 3: 1, 5: 1, 6: 2, 14: 4, 15: 5, 99: 5,
    }  # fmt: skip
    assert all(keys == whole[: len(keys)] for keys in sizes.values())


def test_seeds_without_replies_are_no_ranked_prompts(filled: Filled) -> None:
    filled.store.prompts.add_seeds(filled.run.id, [Seed(instruction="a"), with_replies(1, 2), SEED])
    replies = filled.store.replies
    assert len(replies.prompts(filled.run.id, Split.TRAIN)) == len(replies.held_out(filled.run.id, 99)) == 1


def test_ranked_prompts_come_as_asked_for_best_reply_first_without_canaries(filled: Filled) -> None:
    filled.store.prompts.add_seeds(filled.run.id, [SEED, with_replies(1, 2, Split.HELD_OUT)])
    keys = [row.id for row in filled.store.prompts.seeds(filled.run.id, Split.HELD_OUT)]
    second, first = filled.store.replies.ranked(keys[::-1])
    assert (first.text, first.reference) == (SEED.instruction, SEED.answer)
    assert [reply.position for reply in first.replies] == [0, 1, 2]
    for stored, reply in zip(first.replies, FISH[:3], strict=True):
        assert (stored.text, stored.rank, stored.score, stored.justification) == (
            reply.text, reply.rank, reply.score, reply.justification,
        )  # fmt: skip
    assert [reply.text for reply in second.replies] == ["Reply 0 to 1.", "Reply 1 to 1."]
    assert filled.store.replies.ranked([]) == []
