"""A run goes on under other settings only when that is accepted, and then wholly."""

from pathlib import Path

import pytest

from selfreward.config import Settings
from selfreward.continuity import check_settings
from selfreward.errors import BadInput
from selfreward.types import StageName, Status
from tests.conftest import Filled


def more_judgements(settings: Settings) -> Settings:
    """The same but for the judgements an answer gets."""
    return settings.model_copy(update={"judge": settings.judge.model_copy(update={"samples": 5})})


def half_judged(filled: Filled) -> None:
    """Everything below the cursors of sampling and judging is there; sampling is done."""
    filled.candidates(filled.prompt("Name a colour."), ["Red.", "Blue."])
    filled.judgements(1, [4.0, 4.0, 4.0])
    filled.store.runs.finish_stage(filled.stage(StageName.SAMPLE).id, "all there")


def test_what_was_passed_over_is_looked_at_again_under_accepted_settings(
    filled: Filled, tmp_path: Path
) -> None:
    half_judged(filled)
    changed = more_judgements(filled.settings)
    with pytest.raises(BadInput, match=r"judge\.samples: 3 → 5"):
        check_settings(filled.store, filled.run, changed, tmp_path, accepted=False)
    assert filled.stage(StageName.JUDGE).cursor == 1
    check_settings(filled.store, filled.run, changed, tmp_path, accepted=True)
    judging = filled.store.runs.stage(filled.iteration.id, StageName.JUDGE)
    sampling = filled.store.runs.stage(filled.iteration.id, StageName.SAMPLE)
    assert judging is not None and judging.cursor == 0
    assert sampling is not None and (sampling.cursor, sampling.status) == (0, Status.PENDING)


def test_once_pairs_are_drawn_they_stay_as_they_are(filled: Filled, tmp_path: Path) -> None:
    half_judged(filled)
    filled.stage(StageName.PAIR)
    check_settings(filled.store, filled.run, more_judgements(filled.settings), tmp_path, accepted=True)
    judging = filled.store.runs.stage(filled.iteration.id, StageName.JUDGE)
    assert judging is not None and judging.cursor == 1
