"""Reads where a run stands: a handful of short questions, each its own read transaction."""

import json
from datetime import UTC, datetime
from functools import lru_cache, partial

from pydantic import ValidationError

from selfreward.config import Settings
from selfreward.errors import BadInput
from selfreward.progress.activity import left, working
from selfreward.progress.figures import (
    SCORES,
    Activity,
    Histogram,
    RunStatus,
    TrainingProgress,
)
from selfreward.progress.rates import Meter, thinned
from selfreward.progress.stages import SELDOM_S, Look, stages, tokens
from selfreward.store import Store
from selfreward.types import EvaluationRow, GateResult, IterationRow, LeaseRow, RunRow, StageName, Status

EVENTS = 20
MOST_POINTS = 240
"""Of a training's curve."""
LOSS, MARGIN = "loss", "rewards/margins"
ACCURACIES = ("rewards/accuracies", "mean_token_accuracy")
TRAININGS = (StageName.TRAIN, StageName.TRAIN_REWARD, StageName.BASELINE)


def gather(
    store: Store,
    settings: Settings,
    meter: Meter | None = None,
    at: datetime | None = None,
    where: str = "",
) -> RunStatus:
    """Where the settings' run stands. Raises BadInput when it has not been started yet.

    A screen that looks again and again keeps a `meter` between its looks: rates are then of all rows of the
    last minute, and not only of the newest. `at`: the time it is; `where`: how a command names the run's
    directory, as in " --dir runs/demo".
    """
    run = store.runs.find(settings.name)
    if run is None:
        raise BadInput(
            f"run {settings.name!r} has not been started yet", f"Start it: selfreward start{where}"
        )
    meter, at = meter or Meter(), at or datetime.now(UTC)
    running = store.leases.running(run.id, settings.daemon.lease_timeout_s)
    lease = store.leases.find(run.id)
    iteration = _iteration(store, run, running)
    look = None
    if iteration is not None:
        in_force = _in_force(store, settings, iteration)
        look = Look.of(store, in_force, meter, at, run, lease, running, iteration)
    began = _began(store, run) if running else None
    tree = meter.keep("tree", at.timestamp(), SELDOM_S, store.runs.tree)
    node = tree[run.id]
    return RunStatus(
        run=run.name,
        at=at,
        forked_from=None if node.parent_id is None else tree[node.parent_id].name,
        from_iteration=node.parent_iteration,
        running=running,
        activity=_activity(store, settings, run, lease, running, where),
        lease=lease,
        started_at=began,
        uptime_s=(at - began).total_seconds() if began else None,
        iteration=iteration,
        stages=stages(look) if look else (),
        details=tuple(f"{row.name}: {row.error or row.detail}" for row in look.times) if look else (),
        engine=look.sessions[-1] if look and look.sessions else None,
        engine_sessions=len(look.sessions) if look else 0,
        tokens_per_second=tokens(look),
        histogram=_histogram(store, iteration),
        pairs=look.outcomes if look else {},
        training=_training(look),
        gates=_gates(store, run, iteration),
        evaluation=meter.keep("evaluation", at.timestamp(), SELDOM_S, partial(_evaluation, store, run)),
        checkpoints=tuple(store.runs.checkpoints(run.id)),
        events=tuple(store.journal.events(run.id, EVENTS)),
    )


def _iteration(store: Store, run: RunRow, running: bool) -> IterationRow | None:
    """The newest that was begun; while all are done, the one in which a checkpoint is being measured."""
    last = store.runs.latest_iteration(run.id)
    if running and (last is None or last.status is Status.DONE):
        t = store.progress.being_worked_on(run.id)
        return last if t is None else store.runs.iteration(run.id, t)
    return last


def _in_force(store: Store, settings: Settings, iteration: IterationRow) -> Settings:
    """Those that the iteration is worked on with: its daemon may have been given others than the file's."""
    if settings.digest() == iteration.setting_hash:
        return settings
    return _parsed(json.dumps(store.runs.settings_of(iteration))) or settings


@lru_cache(maxsize=16)
def _parsed(body: str) -> Settings | None:
    """Stored settings; None where they are of another version."""
    try:
        return Settings.model_validate_json(body)
    except ValidationError:
        return None


def _activity(
    store: Store, settings: Settings, run: RunRow, lease: LeaseRow | None, running: bool, where: str
) -> Activity:
    last = store.progress.last_life(run.id)
    if running:
        return working(last, store.progress.last_request(run.id), settings.daemon.run_window, where)
    newest = store.runs.latest_iteration(run.id)
    return left(last, lease, newest.t if newest else None, where)


def _began(store: Store, run: RunRow) -> datetime | None:
    """When the daemon that is at work began."""
    event = store.progress.last_start(run.id)
    return event.at if event else None


def _histogram(store: Store, iteration: IterationRow | None) -> Histogram:
    if iteration is None:
        return Histogram()
    found = store.progress.scores(iteration)
    scores = [0] * SCORES
    for tenth, count in found.tenths.items():
        scores[min(SCORES - 1, (tenth + 5) // 10)] += count
    read = sum(scores)
    return Histogram(
        scores=tuple(scores), unreadable=found.unreadable, mean=found.score_sum / read if read else None
    )


def _training(look: Look | None) -> TrainingProgress | None:
    """The training that is under way or was the last one of the iteration."""
    begun = [row.name for row in look.times if row.name in TRAININGS] if look else []
    if look is None or not begun:
        return None
    found = look.store.progress.curve(look.iteration.id, begun[-1], (LOSS, MARGIN, *ACCURACIES))
    accuracy = next((found[name] for name in ACCURACIES if found[name]), [])
    return TrainingProgress(
        stage=begun[-1],
        steps=max((points[-1][0] for points in found.values() if points), default=0),
        loss=thinned(found[LOSS], MOST_POINTS),
        margin=thinned(found[MARGIN], MOST_POINTS),
        accuracy=thinned(accuracy, MOST_POINTS),
    )


def _gates(store: Store, run: RunRow, iteration: IterationRow | None) -> tuple[GateResult, ...]:
    rows = store.gates.rows(run.id)
    return tuple(result for t, result in rows if iteration is not None and t == iteration.t)


def _evaluation(store: Store, run: RunRow) -> tuple[EvaluationRow, ...]:
    """All figures of the checkpoint that was measured last."""
    rows = store.evaluations.rows(run.id)
    return tuple(row for row in rows if row.checkpoint == rows[-1].checkpoint)
