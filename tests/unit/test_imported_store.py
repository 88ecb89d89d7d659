"""Imported preferences as rows: each once, prompts and answers shared, and pairs of an iteration."""

from dataclasses import replace

import pytest
from sqlalchemy import text

from selfreward.config import PairSettings
from selfreward.errors import BadInput
from selfreward.importing.taking import check_origin, take
from selfreward.mixing import Mix, mix
from selfreward.store.verify import examine
from selfreward.types import (
    PairDecision,
    PairOutcome,
    Preference,
    PreferencePair,
    Seed,
    Split,
    StageName,
)
from tests.conftest import Filled


def preference(number: int, chosen: str = "Good.", rejected: str = "Bad.") -> Preference:
    return Preference(prompt=f"Question {number}?", chosen=chosen, rejected=rejected)


def counts(filled: Filled) -> tuple[int, ...]:
    tables = (
        "imported_preference",
        "prompt WHERE source = 'imported'",
        "candidate WHERE iteration_id IS NULL",
    )
    with filled.store.database.read() as connection:
        return tuple(
            connection.execute(text(f"SELECT count(*) FROM {table}")).scalar_one() for table in tables
        )


def paired(filled: Filled, prompts: int) -> list[int]:
    """That many prompts with a pair of their own; the ids of the pairs."""
    store = filled.store
    stage = filled.stage(StageName.PAIR)
    decisions = []
    for number in range(prompts):
        prompt = filled.prompt(f"Own {number}?", draw=number + 1)
        filled.candidates(prompt, [f"best {number}", f"worst {number}"])
        [scored] = store.pairs.undecided(filled.iteration.id, filled.judge, prompt - 1, 1)
        best, worst = scored.candidates
        pair = PreferencePair(
            prompt_id=prompt, chosen_id=best.id, rejected_id=worst.id, chosen_score=4, rejected_score=1
        )
        decisions.append(PairDecision(prompt_id=prompt, outcome=PairOutcome.PAIRED, pairs=(pair,)))
    store.pairs.decide(filled.iteration.id, filled.judge, stage.id, decisions, 10**6)
    return store.imported.own_pairs(filled.iteration.id)


def test_the_same_again_adds_nothing_and_answers_are_shared(filled: Filled) -> None:
    add = filled.store.imported.add
    batch = [preference(1), preference(1, rejected="Worse."), preference(2), preference(2)]
    assert add(filled.run.id, "a.jsonl", batch) == 3
    assert counts(filled) == (3, 2, 5)
    assert add(filled.run.id, "b.jsonl", batch) == 0, "whatever the file is called"
    assert add(filled.run.id, "b.jsonl", [preference(1, "Bad.", "Good.")]) == 1, "the reverse is another one"
    assert counts(filled) == (4, 2, 5)
    assert filled.store.imported.origins(filled.run.id) == {"a.jsonl": 3, "b.jsonl": 1}


def test_a_prompts_reference_comes_with_the_pairs_that_are_trained_on(filled: Filled) -> None:
    store, t = filled.store, filled.iteration.id
    store.imported.add(filled.run.id, "a", [replace(preference(1), reference="Best."), preference(2)])
    taken = tuple(offer.id for offer in store.imported.offers(filled.iteration))
    store.imported.apply(t, Mix(taken=taken))
    found = {pair.prompt: pair.reference for pair in store.pairs.training_pairs(t)}
    assert found == {"Question 1?": "Best.", "Question 2?": None}


def test_texts_no_database_can_hold_are_known_again(filled: Filled) -> None:
    odd = Preference(prompt="nul\0?", chosen="\ud83d half", rejected="line\r\nend \ufffd0000")
    assert filled.store.imported.add(filled.run.id, "odd", [odd]) == 1
    assert filled.store.imported.add(filled.run.id, "odd", [odd]) == 0
    assert counts(filled) == (1, 1, 2)


def test_a_fork_has_what_its_parent_has(filled: Filled) -> None:
    store = filled.store
    store.imported.add(filled.run.id, "a.jsonl", [preference(1)])
    fork = store.forks.make("fork", filled.run, filled.checkpoint, filled.settings, shares_seeds=True)
    assert store.imported.origins(fork) == {"a.jsonl": 1}
    assert store.imported.add(fork, "a.jsonl", [preference(1), preference(2)]) == 1
    assert store.imported.origins(fork) == {"a.jsonl": 2}
    assert store.imported.origins(filled.run.id) == {"a.jsonl": 1}


def test_what_measures_the_model_is_not_trained_on(filled: Filled) -> None:
    store = filled.store
    before = take(store, filled.run, "a", [preference(1), preference(2)])
    assert (before.read, before.new) == (2, 2)
    held_out = Seed(instruction="Question 1?", split=Split.HELD_OUT)
    store.prompts.add_seeds(filled.run.id, [held_out, Seed(instruction="Question 2?")])
    assert store.imported.origins(filled.run.id) == {"a": 1}, "seeds that came after it count too"
    assert len(store.imported.offers(filled.iteration)) == 1
    after = take(store, filled.run, "a", [preference(1, "More."), preference(3)])
    assert (after.new, after.left_out) == (1, {"held_out": 1})


def test_pairs_are_made_once_and_own_ones_marked(filled: Filled) -> None:
    store, t = filled.store, filled.iteration.id
    own = paired(filled, 3)
    good = Preference(
        prompt="A?", chosen="B.", rejected="C.", chosen_score=5, rejected_score=2, soft_label=0.9
    )
    odd = Preference(prompt="D?", chosen="E.", rejected="F.", chosen_score=1, rejected_score=2)
    store.imported.add(filled.run.id, "hh", [good, odd])
    offers = store.imported.offers(filled.iteration)
    mixed = Mix(taken=tuple(offer.id for offer in offers), surplus=tuple(own[:2]))
    for _ in range(2):
        store.imported.apply(t, mixed)
    assert store.imported.own_pairs(t) == own, "what is marked counts as drawn all the same"
    assert [pair.prompt for pair in store.pairs.training_pairs(t)] == ["Own 2?", "A?", "D?"]
    rows = (
        "SELECT origin, soft_label, margin, judge_id FROM preference_pair WHERE excluded IS NULL ORDER BY id"
    )
    with store.database.read() as connection:
        found = [tuple(row) for row in connection.execute(text(rows))]
    assert found == [("ai", None, 3.0, filled.judge), ("hh", 0.9, 3.0, None), ("hh", None, None, None)]
    assert store.pairs.outcomes(t) == {PairOutcome.SURPLUS: 2, PairOutcome.PAIRED: 1}
    store.imported.apply(t, Mix(taken=mixed.taken))
    assert store.pairs.outcomes(t) == {PairOutcome.PAIRED: 3}, "a mark that no longer holds is taken back"


def test_the_next_iteration_takes_what_is_unused(filled: Filled) -> None:
    store = filled.store
    store.imported.add(filled.run.id, "hh", [preference(n) for n in range(6)])
    share = PairSettings(imported_share=0.5)
    first = mix([1, 2, 3], store.imported.offers(filled.iteration), share, 0)
    store.imported.apply(filled.iteration.id, first)
    later = store.runs.open_iteration(filled.run.id, 2, filled.checkpoint.id, filled.settings)
    offers = store.imported.offers(later)
    assert sorted(offer.uses for offer in offers) == [0, 0, 0, 1, 1, 1]
    second = mix([1, 2, 3], offers, share, 0)
    assert len(second.taken) == 3 and not set(second.taken) & set(first.taken)
    assert {offer.id for offer in store.imported.offers(filled.iteration) if offer.taken} == set(first.taken)


def test_the_database_is_whole_with_imported_rows_in_it(filled: Filled) -> None:
    paired(filled, 2)
    filled.store.imported.add(filled.run.id, "hh", [preference(n) for n in range(2)])
    offers = filled.store.imported.offers(filled.iteration)
    filled.store.imported.apply(filled.iteration.id, Mix(taken=tuple(offer.id for offer in offers)))
    problems = {check.name: check.problems for check in examine(filled.store.database)}
    assert not problems["candidates"] and not problems["pairs"] and not problems["tallies"]


def test_what_was_read_before_an_error_is_stored(filled: Filled) -> None:
    def found() -> object:
        yield from (preference(n) for n in range(3))
        raise BadInput("line 4")

    with pytest.raises(BadInput, match="line 4"):
        take(filled.store, filled.run, "cut", found())  # type: ignore[arg-type]
    assert counts(filled)[0] == 3
    with pytest.raises(BadInput, match=r"nothing of odd can be used \(2 empty\)"):
        take(filled.store, filled.run, "odd", ["empty", "empty"])


def test_names_that_would_be_taken_for_the_model_s_own_are_refused() -> None:
    for name in ("ai", " ", "a\nb", "x" * 300):
        with pytest.raises(BadInput, match="cannot be the name"):
            check_origin(name)
    assert check_origin("trl-lib/ultra") == "trl-lib/ultra"
