"""Which imported preferences are trained on beside an iteration's own pairs. Pure: same rows, same mix.

What was trained on least comes first, so that nothing is repeated while there is something unused; among
those the order is that of a hash of seed and id, which neither the order of the rows nor further ones change.
"""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from itertools import groupby
from math import floor

from selfreward.config import PairSettings
from selfreward.text import digest

REPLACED, UNBALANCED = "imported_share", "balance"
"""Why one of the model's own pairs is not trained on: only imported ones are, or other sources have fewer."""


@dataclass(frozen=True, kw_only=True)
class Offer:
    """An imported preference that can be trained on."""

    id: int
    origin: str
    uses: int = 0
    """Other iterations of the run's history that trained on it."""
    taken: bool = False
    """Whether this iteration has taken it already, before it was stopped in the midst of mixing."""


@dataclass(frozen=True, kw_only=True)
class Mix:
    """What an iteration trains on."""

    taken: tuple[int, ...] = ()
    """Ids of imported preferences, in the order in which they were drawn."""
    surplus: tuple[int, ...] = ()
    """Ids of the model's own pairs that are left out, rising."""
    reason: str = UNBALANCED
    """Why they are."""
    wanted: int = 0
    """How many imported ones the settings ask for; there may be fewer."""


def mix(own: Sequence[int], offers: Iterable[Offer], settings: PairSettings, seed: int) -> Mix:
    """The mix that `pair.imported_share` and `pair.balance_sources` ask for; `own` are the ids of AI pairs.

    With a share s between 0 and 1 as many imported ones are taken as make up s of all, s/(1−s) for each AI
    pair; with s = 1 all of them, and no AI pair. Balanced, each source gives as many as the smallest has,
    and s only says whether imported ones (0: none) or only those (1) take part.
    """
    share = Fraction(str(settings.imported_share))
    ranked = sorted(offers, key=lambda offer: (not offer.taken, offer.uses, _place(seed, offer.id)))
    if not share:
        return Mix()
    if settings.balance_sources:
        return _balanced(own, ranked, seed, alone=share == 1)
    if share == 1:
        return _mix(ranked, own, REPLACED, len(ranked))
    wanted = floor(len(own) * share / (1 - share) + Fraction(1, 2))
    return _mix(ranked[:wanted], (), UNBALANCED, wanted)


def _balanced(own: Sequence[int], ranked: Sequence[Offer], seed: int, *, alone: bool) -> Mix:
    """Equal numbers of each imported origin and, unless those are `alone`, of the model's own pairs."""
    by_origin = _by_origin(ranked)
    sizes = [len(each) for each in by_origin.values()]
    least = min(sizes if alone else [*sizes, len(own)], default=0)
    kept = set() if alone else set(sorted(own, key=lambda pair: _place(seed, pair))[:least])
    taken = [offer for each in by_origin.values() for offer in each[:least]]
    surplus = [pair for pair in own if pair not in kept]
    return _mix(taken, surplus, REPLACED if alone else UNBALANCED, len(taken))


def _by_origin(ranked: Sequence[Offer]) -> Mapping[str, list[Offer]]:
    named = sorted(ranked, key=lambda offer: offer.origin)  # stable: the order within an origin stays
    return {origin: [*each] for origin, each in groupby(named, key=lambda offer: offer.origin)}


def _mix(taken: Sequence[Offer], surplus: Sequence[int], reason: str, wanted: int) -> Mix:
    ids = tuple(offer.id for offer in taken)
    return Mix(taken=ids, surplus=tuple(sorted(surplus)), reason=reason, wanted=wanted)


def _place(seed: int, key: int) -> str:
    return digest(f"{seed}:{key}")


def described(found: Mix, offers: Iterable[Offer]) -> str:
    """The mix in words, for people; empty where nothing was mixed."""
    if not found.wanted and not found.surplus:
        return ""
    origins = {offer.id: offer.origin for offer in offers}
    counts = Counter(origins[key] for key in found.taken)
    from_where = ", ".join(f"{origin} {count}" for origin, count in sorted(counts.items()))
    told = f"{len(found.taken)} imported pairs" + (f" ({from_where})" if counts else "")
    few = f", {found.wanted} were wanted" if len(found.taken) < found.wanted else ""
    left = f"; {len(found.surplus)} own pairs left out ({found.reason})" if found.surplus else ""
    return told + few + left
