"""The stages of an iteration with their rates and the time they need, and the tokens of the engine."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import partial

from selfreward.config import Settings
from selfreward.progress.figures import StageProgress, TokenRates
from selfreward.progress.rates import WINDOW_S, Meter, recent_rate, seconds_left
from selfreward.progress.totals import SELDOM, UNITS, Known, count, expected, total
from selfreward.store import Store
from selfreward.store.progress import EngineSessionRow, Newest, StageTimes
from selfreward.types import IterationRow, LeaseRow, PairOutcome, RunRow, StageName, Status

NOW_S, SELDOM_S = 0.001, 10.0
"""How long what was asked for is good: for this look alone, or for some time."""
WITHOUT_ENGINE = (
    StageName.SELECT,
    StageName.PAIR,
    StageName.TRAIN_REWARD,
    StageName.TRAIN,
    StageName.BASELINE,
)


@dataclass(frozen=True, kw_only=True)
class Look:
    """One look at an iteration: what all its figures are made from."""

    store: Store
    settings: Settings
    meter: Meter
    at: datetime
    run: RunRow
    lease: LeaseRow | None
    running: bool
    """Whether a daemon is alive."""
    iteration: IterationRow
    times: Sequence[StageTimes]
    sessions: Sequence[EngineSessionRow]
    outcomes: Mapping[PairOutcome, int]

    @classmethod
    def of(
        cls,
        store: Store,
        settings: Settings,
        meter: Meter,
        at: datetime,
        run: RunRow,
        lease: LeaseRow | None,
        running: bool,
        iteration: IterationRow,
    ) -> "Look":
        """Look now."""
        moment = at.timestamp()
        outcomes = partial(store.pairs.outcomes, iteration.id)
        return cls(
            store=store,
            settings=settings,
            meter=meter,
            at=at,
            run=run,
            lease=lease,
            running=running,
            iteration=iteration,
            times=store.progress.stages(iteration.id),
            sessions=store.progress.sessions(iteration.id),
            outcomes=meter.keep(("outcomes", iteration.id), moment, SELDOM_S, outcomes),
        )

    @property
    def moment(self) -> float:
        """The time, for the meter."""
        return self.at.timestamp()

    @property
    def at_work(self) -> list[StageName]:
        """The stages that somebody works on."""
        return [row.name for row in self.times if self.running and row.status is Status.RUNNING]

    def newest(self, name: StageName) -> Newest:
        """The newest rows of a stage, asked for once a look."""
        ask = partial(self.store.progress.newest, name, self.iteration)
        return self.meter.keep(("newest", self.iteration.id, name, self.at), self.moment, NOW_S, ask)

    def count(self, row: StageTimes) -> int:
        """Items that a stage has done; of one that has ended, asked for once."""
        ask = partial(count, self.store, self.iteration, row.name)
        if row.status is not Status.DONE:
            return ask()
        return self.meter.keep(
            ("count", self.iteration.id, row.name, row.finished_at), self.moment, math.inf, ask
        )

    @property
    def session(self) -> EngineSessionRow | None:
        """The engine session that is at work."""
        last = self.sessions[-1] if self.running and self.sessions else None
        return last if last and last.ready_at and not last.finished_at else None


def stages(look: Look) -> tuple[StageProgress, ...]:
    """The stages of the iteration: those that have begun, and those to come while it is not done."""
    known = Known(
        store=look.store,
        settings=look.settings,
        run=look.run,
        iteration=look.iteration,
        statuses={row.name: row.status for row in look.times},
        counts={row.name: look.count(row) for row in look.times},
        outcomes=look.outcomes,
    )
    begun = tuple(_progress(look, known, row) for row in look.times)
    if look.iteration.status in (Status.DONE, Status.PENDING):
        return begun
    to_come = [name for name in expected(look.iteration.t, look.settings) if name not in known.statuses]
    return (*begun, *(_to_come(look, known, name) for name in to_come))


def tokens(look: Look | None) -> TokenRates:
    """Tokens a second: what the daemon wrote down of its engine, or else what the newest rows hold."""
    session = None if look is None else look.session
    if look is None or session is None or session.ready_at is None:
        return TokenRates()
    age = (look.at - session.ready_at).total_seconds()
    rates = []
    for name, number in (("generated", session.generated_tokens), ("prompt", session.prompt_tokens)):
        if number is not None:
            look.meter.see((session.id, name), look.moment, number)
        rate = look.meter.step_rate((session.id, name))
        rates.append(number / age if rate is None and number and age > 0 else rate)
    generated, prompt = rates
    return TokenRates(generated=_of_rows(look) if generated is None else generated, prompt=prompt)


def _of_rows(look: Look) -> float | None:
    """Tokens of the newest rows a second; those of prompts are not known."""
    rates = []
    for name in look.at_work:
        made = look.newest(name).made
        if made:
            rates.append(sum(tokens for _, tokens in made) / len(made) * _recent(look, name))
    return sum(rates) if rates else None


def _total(look: Look, known: Known, name: StageName) -> int | None:
    if name not in SELDOM or known.is_done(name):
        return total(known, name)
    ask = partial(total, known, name)
    return look.meter.keep(("total", look.iteration.id, name), look.moment, SELDOM_S, ask)


def _progress(look: Look, known: Known, row: StageTimes) -> StageProgress:
    have, wanted = known.counts[row.name], _total(look, known, row.name)
    at_work = row.name in look.at_work
    rate = _rate(look, row.name, have) if at_work else None
    worked = _worked_s(look, row)
    stage_rate = have / worked if worked and have else None
    return StageProgress(
        name=row.name,
        status=row.status,
        done=have,
        total=wanted,
        unit=UNITS.get(row.name, ""),
        rate=rate,
        stage_rate=stage_rate,
        seconds_left=seconds_left(have, wanted, rate, stage_rate) if at_work else None,
        seconds=_seconds(look, row),
        attempts=row.attempts,
        detail=row.detail,
        error=row.error or "",
        started_at=row.started_at,
        finished_at=row.finished_at,
    )


def _to_come(look: Look, known: Known, name: StageName) -> StageProgress:
    wanted = _total(look, known, name)
    return StageProgress(name=name, status=Status.PENDING, done=0, total=wanted, unit=UNITS.get(name, ""))


def _rate(look: Look, name: StageName, have: int) -> float | None:
    """By the counts of this screen's looks; as long as those tell nothing, by the newest rows."""
    key = (look.iteration.id, name)
    look.meter.see(key, look.moment, have)
    measured = look.meter.rate(key)
    return _recent(look, name) if measured is None and look.newest(name).made else measured


def _recent(look: Look, name: StageName) -> float:
    newest = look.newest(name)
    begun = [row.started_at for row in look.times if row.name is name and row.started_at]
    if look.session and look.session.ready_at:
        begun.append(look.session.ready_at)
    moments = [moment for moment, _ in newest.made]
    return recent_rate(moments, look.at, max(begun, default=None), newest.more, WINDOW_S)


def _seconds(look: Look, row: StageTimes) -> float | None:
    """Since the stage began, to its end; of one that nobody works on there is none."""
    end = row.finished_at if row.status is Status.DONE else look.at if look.running else None
    return (end - row.started_at).total_seconds() if end and row.started_at else None


def _worked_s(look: Look, row: StageTimes) -> float | None:
    """The same without the time between two engines, as far as is known when the first one ended."""
    if row.started_at is None or row.name in WITHOUT_ENGINE:
        return _seconds(look, row)
    end = row.finished_at if row.status is Status.DONE and row.finished_at else look.at
    spans = [
        (max(session.ready_at, row.started_at), min(_end(look, place), end))
        for place, session in enumerate(look.sessions)
        if session.ready_at
    ]
    worked = sum(max(0.0, (last - first).total_seconds()) for first, last in spans)
    return worked or _seconds(look, row)


def _end(look: Look, place: int) -> datetime:
    """When a session ended, or the last moment at which it can have been alive."""
    session, later = look.sessions[place], look.sessions[place + 1 :]
    if session.finished_at:
        return session.finished_at
    if later:
        return later[0].started_at
    return look.lease.heartbeat_at if look.lease and not look.running else look.at
