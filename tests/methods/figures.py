"""What a preset's run has come to, read from its database, and the table of all of them."""

import sqlite3
from collections.abc import Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

COLUMNS = ("preset", "pairs", "loss first → last", "margin before → after", "seconds")
WIDTHS = (14, 5, 52, 21, 7)
OF_ITERATION = "FROM {} JOIN iteration ON iteration.id = iteration_id WHERE t = 1"
PAIRS = f"SELECT count(*) {OF_ITERATION.format('preference_pair')} AND excluded IS NULL"
METRIC = f"SELECT value {OF_ITERATION.format('training_metric')} AND stage = ? AND name = ? ORDER BY step"
SERIES = (("train", "loss"), ("train_reward", "loss"), ("train", "reward"))
"""(stage, name) of what a training tells of itself."""


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """One preset's figures; `error` and nothing else where it failed."""

    preset: str
    seconds: float
    """Wall clock from `selfreward init` to the next checkpoint."""
    pairs: int | None = None
    """Preference pairs of the iteration, trained on or (rrhf, sft_positive, rl) drawn beside."""
    losses: tuple[float, float] | None = None
    """Of the first and the last optimiser step that M_{t+1} was made with; near 0 in reinforcement learning,
    whose answers are those of the policy that learns."""
    reward_losses: tuple[float, float] | None = None
    """Of the reward model R_t, where one is trained."""
    rewards: tuple[float, float] | None = None
    """Mean reward of a step's answers, where there is any."""
    margins: tuple[float, float] | None = None
    """Mean over those pairs of log P(chosen) − log P(rejected), each per token, nats: under M_t, M_{t+1}."""
    error: str = ""


def read(preset: str, directory: Path, seconds: float, margins: tuple[float, float] | None) -> Outcome:
    """The figures of a run that is done."""
    with closing(sqlite3.connect(directory / "selfreward.db")) as connection:
        [[pairs]] = connection.execute(PAIRS).fetchall()
        ends = {key: _first_and_last(connection, *key) for key in SERIES}
    losses, reward_losses, rewards = (ends[key] for key in SERIES)
    return Outcome(
        preset=preset,
        seconds=seconds,
        pairs=pairs,
        losses=losses,
        reward_losses=reward_losses,
        rewards=rewards,
        margins=margins,
    )


def _first_and_last(connection: sqlite3.Connection, stage: str, name: str) -> tuple[float, float] | None:
    values = [value for (value,) in connection.execute(METRIC, (stage, name))]
    return (values[0], values[-1]) if values else None


def table(outcomes: Sequence[Outcome], heading: bool = True) -> str:
    """Markdown, in columns that line up."""
    lines = [_line(COLUMNS), _line(tuple("-" * width for width in WIDTHS))] if heading else []
    lines += [_line(_cells(outcome)) for outcome in outcomes]
    if heading and len(outcomes) > 1:
        lines.append(f"\n{sum(outcome.seconds for outcome in outcomes) / 60:.1f} minutes together")
    return "\n".join(lines)


def _cells(outcome: Outcome) -> tuple[str, ...]:
    seconds = f"{outcome.seconds:.0f}"
    if outcome.error:
        return outcome.preset, "–", f"FAILED: {outcome.error}", "–", seconds
    pairs = "–" if outcome.pairs is None else str(outcome.pairs)
    return outcome.preset, pairs, _learnt(outcome), _ends(outcome.margins, 3, "+"), seconds


def _learnt(outcome: Outcome) -> str:
    """The loss; in reinforcement learning that of R_t, and the reward."""
    if outcome.rewards is None:
        return _ends(outcome.losses, 4)
    of_model = f"of R_1 {_ends(outcome.reward_losses, 4)}, " if outcome.reward_losses else ""
    return f"{of_model}reward {_ends(outcome.rewards, 3, '+')}"


def _ends(values: tuple[float, float] | None, digits: int, sign: str = "") -> str:
    return "–" if values is None else " → ".join(f"{value:{sign}.{digits}f}" for value in values)


def _line(cells: Sequence[str]) -> str:
    padded = (cell.ljust(width) for cell, width in zip(cells, WIDTHS, strict=True))
    return f"| {' | '.join(padded)} |"
