"""Commands about forks: make one from a stored iteration, show the tree of runs."""

import json
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from selfreward.cli.options import RUN, Dir, Json, RunName, Set, find_run, open_store, settings_of
from selfreward.places import run_option

if TYPE_CHECKING:
    from selfreward.forks import Fork

commands = typer.Typer()


class ReuseChoice(StrEnum):
    """What --reuse takes: `selfreward.store.forks.Reuse`, which --help need not load a database for."""

    PROMPTS = "prompts"
    CANDIDATES = "candidates"
    JUDGEMENTS = "judgements"


@commands.command(rich_help_panel=RUN)
def fork(
    from_iteration: Annotated[
        int, typer.Option("--from-iteration", metavar="K", min=0, help="Go on from M_K, with iteration K.")
    ],
    name: Annotated[str, typer.Option(help="The fork's name: lower-case letters, digits, - and _.")],
    directory: Dir = Path(),
    overrides: Set = None,
    reuse: Annotated[
        ReuseChoice | None,
        typer.Option(help="Take over that much of iteration K instead of asking the engine again."),
    ] = None,
    run_name: RunName = None,
) -> None:
    """Make a run that goes on from M_K of this one with settings of its own. This one stays as it is.

    The fork lives in forks/NAME and has all that came before as its history. What it reuses of
    iteration K must be done there: `prompts` are copied, new candidates are sampled for them;
    `candidates` are judged anew, if judge.* has changed; `judgements` are only paired and trained on.
    Relative paths in --set start, like those in the settings file, at this run's directory.

    Examples:

        selfreward fork --from-iteration 1 --name beta05 --set train.beta=0.5 --reuse judgements

        selfreward fork --from-iteration 2 --name rubric2 --set judge.template=mine.jinja --reuse candidates

        selfreward start --run beta05 --detach && selfreward runs
    """
    made = _fork(directory, from_iteration, name, overrides, reuse)
    kept = f", with the {reuse} of iteration {from_iteration}" if reuse else ""
    print(f"forked {made.name} from {made.checkpoint} of {made.parent}{kept}: {made.directory}")
    if not made.shares_seeds:
        print("it has seeds of its own: figures on them are not those of the run it comes from")
    print(f"next: selfreward start{run_option(made.directory)}")


@commands.command(rich_help_panel=RUN)
def runs(directory: Dir = Path(), run_name: RunName = None, as_json: Json = False) -> None:
    """The tree of runs: how far each is, its newest checkpoint, who runs it, what was forked from where.

    Examples:

        selfreward runs

        selfreward runs --json | jq '.[] | select(.running) | .name'
    """
    from selfreward.terminal import runs_tree

    settings = settings_of(directory)
    store = open_store(settings, directory)
    states = runs_tree.gather(store, settings.daemon.lease_timeout_s)
    if as_json:
        print(json.dumps(runs_tree.as_json(states), indent=2))
    else:
        runs_tree.show(states)


def fork_again(directory: Path, from_iteration: int, name: str | None) -> Path:
    """The directory of a new fork with the same settings, called `<run>-from-K` where no name is given."""
    made = _fork(directory, from_iteration, name, None, None)
    print(f"forked {made.name} from {made.checkpoint} of {made.parent}: {made.directory}")
    return made.directory


def _fork(
    directory: Path, t: int, name: str | None, overrides: list[str] | None, reuse: ReuseChoice | None
) -> "Fork":
    from selfreward.forks import free_name, make_fork
    from selfreward.store.forks import Reuse

    settings = settings_of(directory)
    store = open_store(settings, directory)
    parent = find_run(store, settings)
    return make_fork(
        store,
        parent,
        directory,
        t,
        name or free_name(store, parent.name, t),
        overrides or (),
        Reuse(reuse) if reuse else None,
    )
