"""Which imported preferences an iteration trains on: the share, nothing twice, the same again."""

import random
from collections import Counter
from fractions import Fraction

from hypothesis import given
from hypothesis import strategies as st

from selfreward.config import PairSettings
from selfreward.mixing import REPLACED, UNBALANCED, Offer, described, mix

origins = st.sampled_from(["hh", "oasst", "trl"])
offered = st.lists(st.tuples(origins, st.integers(0, 3)), max_size=40).map(
    lambda rows: [Offer(id=100 + key, origin=origin, uses=uses) for key, (origin, uses) in enumerate(rows)]
)
owned = st.integers(0, 40).map(lambda n: list(range(1, n + 1)))
shares = st.integers(1, 9).map(lambda tenth: tenth / 10)


def settings(share: float, balance: bool = False) -> PairSettings:
    return PairSettings(imported_share=share, balance_sources=balance)


@given(own=owned, offers=offered, share=shares, seed=st.integers(0, 5))
def test_the_share_is_met_where_there_is_enough(
    own: list[int], offers: list[Offer], share: float, seed: int
) -> None:
    found = mix(own, offers, settings(share), seed)
    exact = len(own) * Fraction(str(share)) / (1 - Fraction(str(share)))
    assert abs(found.wanted - exact) <= Fraction(1, 2)
    assert len(found.taken) == min(found.wanted, len(offers)) == len(set(found.taken))
    assert found.surplus == ()


@given(own=owned, offers=offered, share=shares, seed=st.integers(0, 5))
def test_nothing_is_repeated_while_something_is_unused(
    own: list[int], offers: list[Offer], share: float, seed: int
) -> None:
    taken = set(mix(own, offers, settings(share), seed).taken)
    most = max((offer.uses for offer in offers if offer.id in taken), default=0)
    assert all(offer.uses >= most for offer in offers if offer.id not in taken)


@given(own=owned, offers=offered, share=shares, balance=st.booleans(), seed=st.integers(0, 5))
def test_the_order_of_the_rows_is_nothing_and_a_resume_changes_nothing(
    own: list[int], offers: list[Offer], share: float, balance: bool, seed: int
) -> None:
    whole = mix(own, offers, settings(share, balance), seed)
    shuffled = random.Random(seed).sample(offers, len(offers))
    assert mix(own, shuffled, settings(share, balance), seed) == whole
    half = set(whole.taken[: len(whole.taken) // 2])
    again = [
        Offer(id=offer.id, origin=offer.origin, uses=offer.uses, taken=offer.id in half) for offer in offers
    ]
    resumed = mix(own, again, settings(share, balance), seed)
    assert (set(resumed.taken), resumed.surplus) == (set(whole.taken), whole.surplus)


@given(own=owned, offers=offered, balance=st.booleans())
def test_no_share_is_nothing_and_all_of_it_leaves_no_own_pair(
    own: list[int], offers: list[Offer], balance: bool
) -> None:
    nothing = mix(own, offers, settings(0, balance), 0)
    assert (nothing.taken, nothing.surplus) == ((), ())
    everything = mix(own, offers, settings(1, balance), 0)
    assert (everything.surplus, everything.reason) == (tuple(own), REPLACED)
    if not balance:
        assert set(everything.taken) == {offer.id for offer in offers}


@given(own=owned, offers=offered, share=shares, seed=st.integers(0, 5))
def test_balanced_sources_give_equal_numbers(
    own: list[int], offers: list[Offer], share: float, seed: int
) -> None:
    found = mix(own, offers, settings(share, True), seed)
    origin = {offer.id: offer.origin for offer in offers}
    sizes = Counter(offer.origin for offer in offers)
    least = min([len(own), *sizes.values()])
    kept = set(own) - set(found.surplus)
    assert found.reason == UNBALANCED
    if not sizes:
        assert len(kept) == len(own), "there is nothing to balance with"
    else:
        assert len(kept) == least
        assert Counter(origin[key] for key in found.taken) == {name: least for name in sizes if least}


def test_another_seed_draws_others_and_more_rows_do_not_reorder() -> None:
    offers = [Offer(id=key, origin="hh") for key in range(200)]
    first, other = (mix([1, 2, 3, 4], offers, settings(0.5), seed).taken for seed in (0, 1))
    assert first != other
    fewer = mix([1, 2, 3, 4], offers[:100], settings(0.5), 0).taken
    assert [key for key in mix([*range(200)], offers, settings(0.5), 0).taken if key < 100][:4] == [*fewer]


def test_what_was_done_is_told_in_words() -> None:
    offers = [Offer(id=1, origin="hh.jsonl"), Offer(id=2, origin="trees")]
    assert described(mix([5, 6, 7], offers, settings(0.5), 0), offers) == (
        "2 imported pairs (hh.jsonl 1, trees 1), 3 were wanted"
    )
    assert described(mix([5], offers, settings(1), 0), offers) == (
        "2 imported pairs (hh.jsonl 1, trees 1); 1 own pairs left out (imported_share)"
    )
    assert described(mix([5], offers, settings(0), 0), offers) == ""
