"""Whether a run goes on as it was begun: under the same settings, and with the same libraries."""

import shlex
from collections.abc import Sequence
from pathlib import Path

from selfreward.config import SETTINGS_FILE, Change, Settings, changes, that_matter
from selfreward.errors import BadInput
from selfreward.places import root_of, run_option
from selfreward.reporting import Reporter
from selfreward.store import Store
from selfreward.types import IterationRow, RunRow, StageName, Status
from selfreward.versions import versions

ACCEPT = "--accept-changed-settings"
GENERATION = (
    StageName.SELF_INSTRUCT,
    StageName.SAMPLE,
    StageName.JUDGE,
    StageName.META_JUDGE,
    StageName.JUDGE_PREVIOUS,
    StageName.ANCHOR,
    StageName.JUDGE_ANCHOR,
)


def check_settings(store: Store, run: RunRow, settings: Settings, directory: Path, accepted: bool) -> None:
    """Raise BadInput when what the run makes would be made with other settings than so far.

    With `accepted` they hold from now on, for what an unfinished iteration has made as well until its pairs
    are drawn, and an event has what changed. A fork that uses its parent's
    seeds keeps them in any case.
    """
    last = _last(store, run)
    if last is None:
        return
    found = that_matter(changes(store.runs.settings_of(last), settings))
    if not found:
        return
    shared = store.runs.node(run.id).seeds_run_id is not None
    if shared and (seeds := [change for change in found if change.key.startswith("seeds.")]):
        raise BadInput(
            f"run {run.name!r} uses the seeds of the run it was forked from:\n{_listed(seeds)}",
            f"Other seeds need another fork:\n  {_fork(run, last, found, directory)}",
        )
    if not accepted:
        raise _refused(run, last, found, directory)
    if store.runs.stage(last.id, StageName.PAIR) is None:
        store.runs.start_over(last.id, GENERATION)  # what lies below a cursor may lack something now
    store.journal.event(
        run.id,
        "settings_changed",
        "accepted: " + ", ".join(change.shown for change in found),
        last.id,
        changes={change.key: [change.old, change.new] for change in found},
    )


def require_made(store: Store, settings: Settings, directory: Path) -> None:
    """Raise BadInput where a fork's directory is there and the fork is not: it was killed in the making."""
    if root_of(directory) != directory.resolve() and store.runs.find(settings.name) is None:
        raise BadInput(
            f"the fork {settings.name!r} in {directory} is not in the database: it was not made to its end",
            "Give the `selfreward fork` command that made it once more.",
        )


def warn_of_versions(store: Store, run: RunRow, reporter: Reporter) -> None:
    """Tell, and write down, when a stage of the run was last started under other versions."""
    before, present = store.runs.last_versions(run.id), versions()
    if before is None or before == present:
        return
    names = sorted(name for name in before.keys() | present.keys() if before.get(name) != present.get(name))
    told = ", ".join(f"{name} {before.get(name, 'none')} → {present.get(name, 'none')}" for name in names)
    store.journal.event(
        run.id,
        "versions_changed",
        f"the run goes on with other versions: {told}",
        before=before,
        now=present,
    )
    reporter.say(f"this run was made with other versions so far: {told}", level="warning")


def _last(store: Store, run: RunRow) -> IterationRow | None:
    """The last iteration that was worked on; of a fork that was not started yet, the one it begins with."""
    begun = store.runs.latest_iteration(run.id)
    fork = store.runs.node(run.id).parent_iteration
    return begun if begun is not None or fork is None else store.runs.iteration(run.id, fork)


def _refused(run: RunRow, last: IterationRow, found: Sequence[Change], directory: Path) -> BadInput:
    return BadInput(
        f"the settings are not those that run {run.name!r} was made with so far:\n{_listed(found)}",
        f"Put them back (in {SETTINGS_FILE}, --set or the environment), or\n"
        f"  change the run from here on:      add {ACCEPT}\n"
        f"  or keep it and change a fork:     {_fork(run, last, found, directory)}",
    )


def _listed(found: Sequence[Change]) -> str:
    return "\n".join(f"  {change.shown}" for change in found)


def _fork(run: RunRow, last: IterationRow, found: Sequence[Change], directory: Path) -> str:
    """The command that makes a fork with the new settings from the next iteration on."""
    t = last.t + 1 if last.status is Status.DONE else last.t
    sets = (f"--set {shlex.quote(change.override)}" for change in found if change.new is not None)
    parts = (f"--from-iteration {t}", f"--name {run.name[:60]}-2", *sets)
    return f"selfreward fork{run_option(directory)} {' '.join(parts)}"
