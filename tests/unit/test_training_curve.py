"""The view over a training that was stopped: each step as the last attempt that came to it tells it."""

import pytest

from selfreward.store import Store
from selfreward.types import MetricPoint, StageName
from tests.measured_run import Measured


@pytest.fixture
def measured(store: Store) -> Measured:
    """A store with an iteration in it."""
    return Measured(store)


def tell(measured: Measured, attempt: int, first: int, last: int) -> None:
    """An attempt that came from one step to another; its loss tells which it was."""
    for step in range(first, last + 1):
        points = [
            MetricPoint(step=step, name="loss", value=attempt + step / 100),
            MetricPoint(step=step, name="rewards/margins", value=float(attempt)),
        ]
        measured.store.journal.add_metrics(measured.iteration.id, StageName.TRAIN, attempt, points)


def curve(measured: Measured) -> list[tuple[int, float, float]]:
    rows = measured.sql("SELECT step, loss, margin FROM training_curve ORDER BY step")
    return [(step, round(loss, 6), margin) for step, loss, margin in rows]


def of(attempt: int, first: int, last: int) -> list[tuple[int, float, float]]:
    return [(step, round(attempt + step / 100, 6), float(attempt)) for step in range(first, last + 1)]


def test_a_training_that_went_on_is_one_curve(measured: Measured) -> None:
    """Killed at step 6 after its state was saved at step 3; then left alone."""
    tell(measured, 1, 1, 6)
    tell(measured, 2, 4, 9)
    assert curve(measured) == of(1, 1, 3) + of(2, 4, 9)
    assert measured.sql("SELECT steps FROM iteration_summary") == [(9,)]


def test_one_that_went_on_twice_is_one_curve_still(measured: Measured) -> None:
    tell(measured, 1, 1, 5)
    tell(measured, 2, 4, 8)
    tell(measured, 3, 7, 9)
    assert curve(measured) == of(1, 1, 3) + of(2, 4, 6) + of(3, 7, 9)


def test_what_a_damaged_state_made_void_is_not_shown(measured: Measured) -> None:
    """The second attempt went on further than where the third, from an older state, goes on."""
    tell(measured, 1, 1, 5)
    tell(measured, 2, 6, 9)
    tell(measured, 3, 3, 4)
    assert curve(measured) == of(1, 1, 2) + of(3, 3, 4)


def test_a_training_that_began_again_shows_nothing_of_before(measured: Measured) -> None:
    tell(measured, 1, 1, 9)
    tell(measured, 2, 1, 2)
    assert curve(measured) == of(2, 1, 2)


def test_an_attempt_that_came_to_no_step_hides_nothing(measured: Measured) -> None:
    """The second ran out of memory before its first step."""
    tell(measured, 1, 1, 3)
    tell(measured, 3, 4, 5)
    assert curve(measured) == of(1, 1, 3) + of(3, 4, 5)
