"""Die at every place there is, start again, and find nothing lost and nothing twice, on both databases."""

from collections.abc import Sequence

import pytest

from selfreward.crash import POINTS
from tests.crash.conftest import NewTrial, Workshop
from tests.crash.harness import IN_CHILD, Case, Trial
from tests.crash.rows import Content

# Where each place is come to. Those of a scenario are in the order in which a run comes to them.
PLACES = {
    "from nothing": ("migration:begun", "migration:done"),
    "plain": (
        "lease:taken",
        "lease:beat",
        "engine:starting",
        "engine:ready",
        "self_instruct:asked",
        "self_instruct:storing",
        "self_instruct:stored",
        "sample:asked",
        "sample:storing",
        "sample:stored",
        "judge:asked",
        "judge:storing",
        "judge:stored",
        "write:storing:5",
        "pair:stored",
        "check:stored",
        "train:job_written",
        "train:step:2",
        "model:assembled",
        "model:summed",
        "model:synced",
        "model:renamed",
        "train:published",
        "train:recorded",
    ),
    "saving": ("train:saved", "train:told"),
    "measured": (
        "answer_held_out:asked",
        "answer_held_out:stored",
        "answer_held_out:storing",
        "judge_held_out:asked",
        "judge_held_out:storing",
        "judge_held_out:stored",
        "evaluate:stored",
        "compare:asked",
        "compare:storing",
        "compare:stored",
        "compare_independent:asked",
        "compare_independent:stored",
    ),
    "bootstrap": (
        "examples:stored",
        "baseline:published",
        "measure_baseline:asked",
        "measure_baseline:stored",
    ),
    "retention": ("retention:marked:4",),
    "reward model": ("train_reward:published", "train_reward:recorded"),
    "imported": ("mix:stored",),
    "backup": ("backup:copied",),
}
# The stages that only some methods have: in a row, for each of these runs has two iterations.
IN_A_ROW = {
    "methods": (
        "meta_judge:asked",
        "meta_judge:storing",
        "meta_judge:stored",
        "meta_judge:paired",
        "judge_previous:asked",
        "judge_previous:stored",
        "consistency:storing",
        "anchor:asked",
        "anchor:storing",
        "anchor:stored",
        "judge_anchor:asked",
        "judge_anchor:stored",
    ),
}
SQLITE_ONLY = frozenset({"backup:copied"})
"""PostgreSQL is backed up by its own tools."""
EACH = [(scenario, place) for scenario, places in PLACES.items() for place in places]
EVERYWHERE = [*(place for _, place in EACH), *(place for places in IN_A_ROW.values() for place in places)]

# The same places again and again in one run, other times than the first, and in other surroundings.
AGAIN = {
    "from nothing": ("migration:begun:2", "write:storing:1", "write:storing:2", "write:storing:3"),
    "plain": (
        "self_instruct:asked:2",
        "sample:stored:2",
        "judge:asked:4",
        "write:storing:8",
        "judge:stored:3",
        "write:storing:16",
    ),
    "side by side": ("self_instruct:storing:2", "sample:stored", "judge:storing:2", "judge:asked:3"),
    "saving": ("train:saved", "train:step", "model:synced", "train:saved", "train:told"),
    "bootstrap": ("examples:stored:2", "train:published", "train:recorded"),
    "retention": ("retention:marked:2", "retention:marked:2"),
    "backup": ("backup:copied:2", "backup:copied"),
}
# What a drain finishes is not come to again: more of everything, and in another order.
DRAINED = {
    "from nothing": PLACES["from nothing"],
    "long": (*(place for place in PLACES["plain"][:-1] if Case.read(place).point not in IN_CHILD),),
    "saving": ("train:told",),
    "measured": PLACES["measured"],
    "bootstrap": (*PLACES["bootstrap"], "train:published", "train:recorded"),
    "retention": ("retention:marked:2",),
    "reward model": PLACES["reward model"],
    "imported": PLACES["imported"],
    "backup": PLACES["backup"],
    **IN_A_ROW,
}


def test_every_place_is_died_at() -> None:
    assert {Case.read(place).point for place in EVERYWHERE} == POINTS
    terminated = {Case.read(place).point for places in DRAINED.values() for place in places}
    assert terminated == POINTS - IN_CHILD


def come_through(trial: Trial, cases: Sequence[Case], wanted: Content) -> None:
    for case in cases:
        trial.disturb(case)
    trial.go_on(wanted)
    assert not trial.problems, "\n".join(trial.problems)


@pytest.mark.parametrize(("scenario", "place"), EACH, ids=[place for _, place in EACH])
def test_a_kill_loses_nothing_and_repeats_nothing(
    scenario: str, place: str, new_trial: NewTrial, workshop: Workshop
) -> None:
    come_through(new_trial(scenario, "sqlite"), [Case.read(place)], workshop.undisturbed(scenario))


@pytest.mark.parametrize("scenario", IN_A_ROW)
def test_a_run_that_is_killed_in_each_of_its_own_stages_comes_to_the_same(
    scenario: str, new_trial: NewTrial, workshop: Workshop
) -> None:
    cases = [Case.read(place) for place in IN_A_ROW[scenario]]
    come_through(new_trial(scenario, "sqlite"), cases, workshop.undisturbed(scenario))


@pytest.mark.long
@pytest.mark.parametrize("scenario", [name for name, places in PLACES.items() if {*places} - SQLITE_ONLY])
def test_a_run_on_postgresql_that_is_killed_at_every_place_comes_to_the_same(
    scenario: str, new_trial: NewTrial, workshop: Workshop
) -> None:
    cases = [Case.read(place) for place in PLACES[scenario]]
    come_through(new_trial(scenario, "postgresql"), cases, workshop.undisturbed(scenario))


@pytest.mark.long
@pytest.mark.parametrize("scenario", AGAIN)
def test_a_run_that_is_killed_again_and_again_comes_to_the_same(
    scenario: str, new_trial: NewTrial, workshop: Workshop
) -> None:
    cases = [Case.read(place) for place in AGAIN[scenario]]
    come_through(new_trial(scenario, "sqlite"), cases, workshop.undisturbed(scenario))


# What is little is finished by a drain, and not come to again: each of these places in a run of its own.
ALONE = frozenset({"measured", "reward model", "methods"})
TERMINATED = [
    (scenario, chosen)
    for scenario, places in DRAINED.items()
    for chosen in ([(place,) for place in places] if scenario in ALONE else [places])
]


@pytest.mark.long
@pytest.mark.parametrize(
    ("scenario", "places"),
    TERMINATED,
    ids=[f"{name}-{places[0]}" if name in ALONE else name for name, places in TERMINATED],
)
def test_sigterm_anywhere_ends_in_status_zero_and_loses_nothing(
    scenario: str, places: tuple[str, ...], new_trial: NewTrial, workshop: Workshop
) -> None:
    cases = [Case.read(place, "TERM") for place in places]
    come_through(new_trial(scenario, "sqlite"), cases, workshop.undisturbed(scenario))
