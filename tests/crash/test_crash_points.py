"""Die at every place there is, start again, and find nothing lost and nothing twice, on both databases."""

from collections.abc import Iterator
from typing import Any

import pytest

from selfreward.crash import POINTS
from tests.crash.conftest import NewTrial, Workshop
from tests.crash.harness import IN_CHILD, Case

SQLITE_ONLY = frozenset({"backup:copied"})
"""PostgreSQL is backed up by its own tools."""

# Where each place is come to, and which times it is died at.
PLACES: dict[str, tuple[tuple[str, tuple[int, ...]], ...]] = {
    "self_instruct:asked": (("plain", (1, 3)),),
    "self_instruct:storing": (("plain", (1, 2)), ("side by side", (3,))),
    "self_instruct:stored": (("plain", (1, 3)),),
    "sample:asked": (("plain", (1, 3)),),
    "sample:storing": (("plain", (1, 2)),),
    "sample:stored": (("plain", (2,)), ("side by side", (1,))),
    "judge:asked": (("plain", (1, 8)),),
    "judge:storing": (("plain", (1,)), ("side by side", (2,))),
    "judge:stored": (("plain", (1, 12)),),
    "write:storing": (("plain", (1, 2, 4, 8, 16, 32)),),
    "pair:stored": (("plain", (1,)),),
    "check:stored": (("plain", (1,)),),
    "engine:starting": (("plain", (1,)),),
    "engine:ready": (("plain", (1,)),),
    "train:job_written": (("plain", (1,)),),
    "train:step": (("plain", (1, 2)), ("saving", (2,))),
    "train:saved": (("saving", (1, 2)),),
    "train:told": (("plain", (1, 2)), ("saving", (1, 2))),
    "model:assembled": (("plain", (1,)),),
    "model:summed": (("plain", (1,)),),
    "model:synced": (("plain", (1,)), ("saving", (1,))),
    "model:renamed": (("plain", (1,)),),
    "train:published": (("plain", (1,)), ("bootstrap", (1,))),
    "train:recorded": (("plain", (1,)), ("bootstrap", (1,))),
    "lease:taken": (("plain", (1,)),),
    "lease:beat": (("plain", (1,)),),
    "migration:begun": (("from nothing", (1, 2)),),
    "migration:done": (("from nothing", (1,)),),
    "answer_held_out:asked": (("measured", (1,)),),
    "answer_held_out:storing": (("measured", (2,)),),
    "answer_held_out:stored": (("measured", (3,)),),
    "judge_held_out:asked": (("measured", (2,)),),
    "judge_held_out:storing": (("measured", (5,)),),
    "judge_held_out:stored": (("measured", (8,)),),
    "compare:asked": (("measured", (1,)),),
    "compare:storing": (("measured", (2,)),),
    "compare:stored": (("measured", (1,)),),
    "compare_independent:asked": (("measured", (2,)),),
    "compare_independent:stored": (("measured", (1,)),),
    "evaluate:stored": (("measured", (1, 2)),),
    "measure_baseline:asked": (("bootstrap", (1,)),),
    "measure_baseline:stored": (("bootstrap", (2,)),),
    "examples:stored": (("bootstrap", (1, 2)),),
    "baseline:published": (("bootstrap", (1,)),),
    "retention:marked": (("retention", (2, 3)),),
    "backup:copied": (("backup", (1, 2)),),
}


def _cases() -> Iterator[Any]:
    """Every visit on SQLite; on PostgreSQL the last in the first scenario, and every write that is tried."""
    for point, visits in PLACES.items():
        for scenario, times in visits:
            on_both = times if point == "write:storing" else times[-1:]
            for n in times:
                yield _case("sqlite", point=point, n=n, scenario=scenario)
                if n in on_both and scenario == visits[0][0] and point not in SQLITE_ONLY:
                    yield _case("postgresql", point=point, n=n, scenario=scenario)


def _case(database: str, **place: Any) -> Any:
    name = f"{place['point']}:{place['n']}-{place['scenario'].replace(' ', '_')}-{database}"
    return pytest.param(Case(**place), database, id=name)


IN_DAEMON = [
    pytest.param(Case(point=point, n=visits[0][1][0], scenario=visits[0][0], signal="TERM"), id=point)
    for point, visits in PLACES.items()
    if point not in IN_CHILD
]


def test_every_place_is_died_at() -> None:
    assert PLACES.keys() == POINTS


@pytest.mark.parametrize(("case", "database"), list(_cases()))
def test_a_kill_loses_nothing_and_repeats_nothing(
    case: Case, database: str, new_trial: NewTrial, workshop: Workshop
) -> None:
    wanted = workshop.undisturbed(case.scenario)
    trial = new_trial(case, database)
    trial.disturb()
    trial.go_on(wanted)
    assert not trial.outcome.problems, "\n".join(trial.outcome.problems)


@pytest.mark.parametrize("case", IN_DAEMON)
def test_sigterm_anywhere_ends_in_status_zero_and_loses_nothing(
    case: Case, new_trial: NewTrial, workshop: Workshop
) -> None:
    wanted = workshop.undisturbed(case.scenario)
    trial = new_trial(case, "sqlite")
    trial.disturb()
    trial.go_on(wanted)
    assert not trial.outcome.problems, "\n".join(trial.outcome.problems)
