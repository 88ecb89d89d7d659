"""How far M_t's ranking of its candidates agrees with that of the model before it (CREAM, arXiv 2410.12735).

C = mean over prompts of (τ + 1) / 2, with Kendall's τ-b of the two rankings: one figure for all pairs of the
iteration, the probability that a pair is the right way round. M_{t-1} judges in `stages.earlier`.
"""

from dataclasses import replace

from selfreward.stages.judge import judge_id, judge_of
from selfreward.stages.workplace import Workplace
from selfreward.store.consistency import PromptConsistency
from selfreward.types import CheckpointRow, ScoredPrompt, StageName

PAGE = 250
CREAM = "cream"


def wanted(place: Workplace) -> bool:
    """Whether the objective needs it."""
    return place.settings.train.objective == CREAM


def label(place: Workplace) -> float | None:
    """C, the soft label of every pair of the iteration, 0 to 1; None where the objective does not ask for it.

    1, the pairs as they are, where no model came before M_t or no prompt tells anything.
    """
    if not wanted(place):
        return None
    mean, _, _ = place.store.consistency.summary(place.iteration.id)
    return 1.0 if mean is None else (mean + 1) / 2


def previous(place: Workplace) -> CheckpointRow | None:
    """M_{t-1}; None for a model that the run began with."""
    return place.store.runs.checkpoint(place.run.id, place.checkpoint.version - 1)


def measured(place: Workplace) -> bool:
    """Whether the agreement about every prompt is stored."""
    _, _, prompts = place.store.consistency.summary(place.iteration.id)
    return prompts >= place.store.journal.count(place.iteration, StageName.SELF_INSTRUCT)


def measure(place: Workplace, before: CheckpointRow) -> str:
    """Store the agreement about each prompt; returns how it ended, in words. Repeats nothing."""
    store, mine = place.store, judge_of(place)
    theirs, after = judge_id(replace(place, checkpoint=before)), 0
    while prompts := store.pairs.undecided(place.data_iteration, mine, after, PAGE):
        others = store.pairs.undecided(place.data_iteration, theirs, after, PAGE)
        rows = [_agreement(one, other) for one, other in zip(prompts, others, strict=True)]
        store.consistency.put(place.iteration.id, mine, theirs, rows)
        after = prompts[-1].id
    return describe(place, before)


def describe(place: Workplace, before: CheckpointRow) -> str:
    """What was found, in words."""
    mean, known, prompts = place.store.consistency.summary(place.iteration.id)
    if mean is None:
        return f"none of {prompts} prompts tells {place.checkpoint.name} and {before.name} apart: C = 1"
    of = f"{known} of {prompts} prompts"
    return f"C = {label(place):.3f}, mean tau {mean:+.3f} with {before.name} on {of}"


def _agreement(mine: ScoredPrompt, theirs: ScoredPrompt) -> PromptConsistency:
    first, second = _means(mine), _means(theirs)
    both = sorted(first.keys() & second.keys())
    tau = _tau([first[key] for key in both], [second[key] for key in both])
    return PromptConsistency(prompt_id=mine.id, tau=tau, candidates=len(both))


def _means(prompt: ScoredPrompt) -> dict[int, float]:
    """Mean score of each of M_t's own candidates that has one."""
    scored = (each for each in prompt.candidates if each.scores and not each.anchor)
    return {each.id: sum(each.scores) / len(each.scores) for each in scored}


def _tau(first: list[float], second: list[float]) -> float | None:
    """Kendall's τ-b, which allows for ties; None where a ranking tells no two candidates apart."""
    if len(set(first)) < 2 or len(set(second)) < 2:
        return None
    from scipy import stats  # takes a while to import

    return float(stats.kendalltau(first, second, variant="b").statistic)
