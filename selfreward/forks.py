"""Forks: a run of its own that goes on from M_K of another, with settings of its own, in forks/NAME.

The settings file is written first, complete or not at all; the rows then appear in one transaction. What a
kill leaves between the two is a directory without a run, which the same command replaces.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from selfreward.config import (
    SETTINGS_FILE,
    Change,
    Settings,
    changes,
    load_settings,
    render_settings,
)
from selfreward.errors import BadInput
from selfreward.moving import moved
from selfreward.places import fork_directory, root_of
from selfreward.prompting import load_template
from selfreward.stages.judge import template_name
from selfreward.store import Store
from selfreward.store.forks import Reuse
from selfreward.training.manifest import write_durably
from selfreward.types import CheckpointRow, IterationRow, RunRow

NAME = re.compile(r"[a-z0-9][a-z0-9_-]{0,62}")
FIXED = ("name", "model", "database")
"""Tables and settings that a fork has from its parent."""
REUSED = {
    Reuse.PROMPTS: ("self_instruct",),
    Reuse.CANDIDATES: ("self_instruct", "sample"),
    Reuse.JUDGEMENTS: ("self_instruct", "sample", "judge"),
}
"""Tables of settings that made what is reused."""
MADE_NONE = ("judge.meta",)
"""Settings of these tables that had no part in it: judgements are compared after they are made."""


@dataclass(frozen=True, kw_only=True)
class Fork:
    """What was made."""

    name: str
    parent: str
    checkpoint: str
    directory: Path
    shares_seeds: bool


def make_fork(
    store: Store,
    parent: RunRow,
    directory: Path,
    t: int,
    name: str,
    overrides: Sequence[str] = (),
    reuse: Reuse | None = None,
) -> Fork:
    """A fork called `name` of the run in `directory`, from iteration `t` on.

    Its settings are the parent's with `overrides` ("key=value"); relative paths in them mean the same
    files. Raises BadInput for what cannot be: a name that is taken, an M_t that is not there, settings
    that contradict what is reused, things to reuse that are not done.
    """
    _check_name(store, name)
    checkpoint = _checkpoint(store, parent, t)
    before, after = load_settings(directory), load_settings(directory, overrides)
    _check_fixed(parent, checkpoint, changes(before.model_dump(mode="json"), after))
    store.forks.require(parent, checkpoint, reuse)
    if reuse is not None:
        _check_reuse(store, parent, directory, t, after, reuse)
    target = fork_directory(root_of(directory), name)
    written = load_settings(directory, overrides, environ={})
    _write(moved(written, directory.resolve(), target, name, t), parent, target, t)
    shares = before.seeds == after.seeds
    store.forks.make(name, parent, checkpoint, load_settings(target), shares_seeds=shares, reuse=reuse)
    return Fork(
        name=name, parent=parent.name, checkpoint=checkpoint.name, directory=target, shares_seeds=shares
    )


def free_name(store: Store, parent: str, t: int) -> str:
    """<parent>-from-<t>, or the first of …-2, …-3 that no run has."""
    taken, base = set(store.runs.names()), f"{parent[:48]}-from-{t}"
    names = (base if number == 1 else f"{base}-{number}" for number in range(1, len(taken) + 2))
    return next(name for name in names if name not in taken)


def _check_name(store: Store, name: str) -> None:
    if not NAME.fullmatch(name):
        raise BadInput(
            f"{name!r} is no name for a run",
            "Use lower-case letters, digits, - and _, at most 63 of them, a letter or digit first.",
        )
    if store.runs.find(name) is not None:
        raise BadInput(f"there is a run {name!r} already", "Give the fork another name.")


def _checkpoint(store: Store, parent: RunRow, t: int) -> CheckpointRow:
    """M_t of the parent's history."""
    checkpoint = store.runs.checkpoint(parent.id, t)
    if checkpoint is None:
        own = [row for row in store.runs.checkpoints(parent.id) if row.name == f"M_{row.version}"]
        known = ", ".join(str(row.version) for row in own) or "none yet"
        raise BadInput(
            f"run {parent.name!r} has no M_{t} to go on from", f"Iterations to fork from: {known}."
        )
    return checkpoint


def _check_fixed(parent: RunRow, checkpoint: CheckpointRow, found: Sequence[Change]) -> None:
    """The past cannot be changed: which model, which database, and from M_1 on how M_1 was made."""
    fixed = (*FIXED, "bootstrap") if checkpoint.version else (*FIXED, "bootstrap.mode")
    if wrong := [change for change in found if _belongs(change.key, fixed)]:
        raise BadInput(
            f"a fork goes on from {checkpoint.name} of run {parent.name!r}, in the same database. "
            f"It cannot change:\n{_listed(wrong)}",
            "Leave that out. For another model: selfreward init. The fork's name is given with --name.",
        )


def _check_reuse(
    store: Store, parent: RunRow, directory: Path, t: int, settings: Settings, reuse: Reuse
) -> None:
    """The settings must be those that made what is reused."""
    source = store.runs.iteration_in_history(parent.id, t)
    assert source is not None, "what is required is there"
    wrong = _contradictions(store, parent, source, settings, reuse)
    if wrong:
        raise BadInput(
            f"the {reuse} of iteration {t} of run {parent.name!r} were made with other settings:\n"
            f"{_listed(wrong)}",
            "Leave these as they were, or reuse less: see selfreward fork --help.",
        )
    if reuse is Reuse.JUDGEMENTS:
        template = template_name(settings.judge)
        if template and store.forks.judge_template(source.id) not in (
            None,
            load_template(template, directory).digest,
        ):
            raise BadInput(
                f"the template {template} is not the one that the judgements were made with",
                "Put it back, or use --reuse candidates: then they are judged anew.",
            )


def _contradictions(
    store: Store, parent: RunRow, source: IterationRow, settings: Settings, reuse: Reuse
) -> list[Change]:
    """Settings of the reused stages that differ. A path is another in another run's directory."""
    found = changes(store.runs.settings_of(source), settings)
    return [
        change
        for change in found
        if _belongs(change.key, REUSED[reuse])
        and not _belongs(change.key, MADE_NONE)
        and (source.run_id == parent.id or not change.key.endswith(".template"))
    ]


def _belongs(key: str, tables: Sequence[str]) -> bool:
    return any(key == table or key.startswith(f"{table}.") for table in tables)


def _listed(found: Sequence[Change]) -> str:
    return "\n".join(f"  {change.shown}" for change in found)


def _write(settings: Settings, parent: RunRow, target: Path, t: int) -> None:
    header = (
        f"Settings of the fork {settings.name!r} of the run {parent.name!r}, from iteration {t} on.\n"
        f"Start it with: selfreward start --run {settings.name}"
    )
    target.mkdir(parents=True, exist_ok=True)
    write_durably(target / SETTINGS_FILE, render_settings(settings.model_dump(), header))
