"""Commands that look at what a run has made: one thing, two checkpoints beside each other, the events."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from selfreward.cli.options import DATA, RUN, Dir, Json, RunName, find_run, open_store, settings_of
from selfreward.errors import BadInput
from selfreward.places import root_of, run_option

if TYPE_CHECKING:
    from selfreward.store.browse import Browse
    from selfreward.types import RunRow

GREATEST = 2**63 - 1
"""Of what a database can hold as an id."""

commands = typer.Typer()
shown = typer.Typer(
    no_args_is_help=True,
    help="""Show one thing with all that belongs to it.

Examples:

    selfreward show iteration 2

    selfreward show pair 5

    selfreward show prompt 17 --full

    selfreward show checkpoint M_2 --json
""",
)
commands.add_typer(shown, name="show", rich_help_panel=DATA)

Id = Annotated[int, typer.Argument(metavar="ID", min=0, max=GREATEST, help="Its id.")]
Full = Annotated[bool, typer.Option("--full", help="Whole texts, however long.")]


@shown.command("iteration")
def show_iteration(
    t: Annotated[int, typer.Argument(metavar="T", min=0, max=2**31 - 1, help="Its number.")],
    directory: Dir = Path(),
    run_name: RunName = None,
    as_json: Json = False,
    full: Full = False,
) -> None:
    """What iteration T made: counts, stages, scores, gates, changed settings, events.

    Examples:

        selfreward show iteration 2

        selfreward show iteration 1 --run beta05
    """
    from selfreward.terminal import show_runs
    from selfreward.terminal.blocks import print_json, sheet_on

    browse, run = _open(directory)
    found = browse.iteration(run.id, t)
    print_json(found) if as_json else show_runs.show_iteration(found, sheet_on(full, run_option(directory)))


@shown.command("prompt")
def show_prompt(
    prompt_id: Id,
    directory: Dir = Path(),
    run_name: RunName = None,
    as_json: Json = False,
    full: Full = False,
) -> None:
    """A prompt: who wrote it from what, its candidates with their judgements, and what became of it.

    Examples:

        selfreward show prompt 17

        selfreward show prompt 17 --run beta05 --full
    """
    from selfreward.terminal import show
    from selfreward.terminal.blocks import print_json, sheet_on

    browse, run = _open(directory)
    found = browse.prompt(run.id, prompt_id)
    print_json(found) if as_json else show.show_prompt(found, sheet_on(full, run_option(directory)))


@shown.command("candidate")
def show_candidate(
    candidate_id: Id,
    directory: Dir = Path(),
    run_name: RunName = None,
    as_json: Json = False,
    full: Full = False,
) -> None:
    """A candidate: its text, all judgements of it, and the pairs that it is part of.

    Example:

        selfreward show candidate 93 --full
    """
    from selfreward.terminal import show
    from selfreward.terminal.blocks import print_json, sheet_on

    browse, _ = _open(directory)
    found = browse.candidate(candidate_id)
    print_json(found) if as_json else show.show_candidate(found, sheet_on(full, run_option(directory)))


@shown.command("pair")
def show_pair(
    pair_id: Id,
    directory: Dir = Path(),
    run_name: RunName = None,
    as_json: Json = False,
    full: Full = False,
) -> None:
    """A preference pair: chosen and rejected side by side, words that differ marked, and their judgements.

    Examples:

        selfreward show pair 5

        selfreward show pair 5 --json | jq .chosen.text
    """
    from selfreward.terminal import show
    from selfreward.terminal.blocks import print_json, sheet_on

    browse, _ = _open(directory)
    found = browse.pair(pair_id)
    print_json(found) if as_json else show.show_pair(found, sheet_on(full, run_option(directory)))


@shown.command("checkpoint")
def show_checkpoint(
    name: Annotated[str, typer.Argument(metavar="CHECKPOINT", help="Its name: M_2.")],
    directory: Dir = Path(),
    run_name: RunName = None,
    as_json: Json = False,
) -> None:
    """A checkpoint: where it comes from, what it was trained on, its figures, and its files.

    Example:

        selfreward show checkpoint M_2
    """
    from selfreward.terminal import show_runs
    from selfreward.terminal.blocks import print_json, sheet_on

    browse, run = _open(directory)
    found = browse.checkpoint(run.id, name, root_of(directory))
    print_json(found) if as_json else show_runs.show_checkpoint(found, sheet_on(where=run_option(directory)))


@commands.command(rich_help_panel=DATA)
def diff(
    first: Annotated[str, typer.Argument(metavar="CHECKPOINT", help="One checkpoint: M_1.")],
    second: Annotated[str, typer.Argument(metavar="CHECKPOINT", help="The other: M_2.")],
    directory: Dir = Path(),
    run_name: RunName = None,
    prompt: Annotated[
        int | None, typer.Option(metavar="ID", min=0, max=GREATEST, help="Only this held-out prompt.")
    ] = None,
    limit: Annotated[int, typer.Option(min=1, max=10_000, help="Most prompts to show.")] = 5,
    as_json: Json = False,
    full: Full = False,
) -> None:
    """The same held-out prompts answered by two checkpoints, side by side, with what judges made of them.

    Examples:

        selfreward diff M_1 M_2

        selfreward diff M_1 M_3 --prompt 12 --full

        selfreward diff M_1 M_2 --run beta05 --limit 50 | less
    """
    from selfreward.terminal import blocks
    from selfreward.terminal.diff import show_diff

    browse, run = _open(directory)
    one, two = (browse.checkpoint(run.id, name) for name in (first, second))
    if one.id == two.id:
        raise BadInput(f"{first} is compared with itself", "Name two checkpoints: selfreward diff M_1 M_2")
    rows = browse.answers_side_by_side(one.id, two.id, prompt_id=prompt, limit=limit).rows
    summary = browse.answers_summary(one.id, two.id)
    if not rows:
        raise _nothing(first, second, prompt, summary.prompts)
    if as_json:
        blocks.print_json({"first": one.name, "second": two.name, "summary": summary, "prompts": rows})
    else:
        show_diff((first, second), rows, summary, blocks.sheet_on(full, run_option(directory)))


@commands.command(rich_help_panel=RUN)
def log(
    directory: Dir = Path(),
    run_name: RunName = None,
    follow: Annotated[
        bool, typer.Option("--follow", "-f", help="Go on with what comes, until Ctrl-C.")
    ] = False,
    limit: Annotated[int, typer.Option("--limit", "-n", min=0, max=100_000, help="Most past events.")] = 20,
    kind: Annotated[
        list[str] | None, typer.Option(metavar="KIND", help="Only this kind: failed, gate, … (repeatable).")
    ] = None,
    as_json: Json = False,
) -> None:
    """What the daemon did and why, oldest first. With --json an object a line.

    Examples:

        selfreward log --follow

        selfreward log --kind failed --kind halted --limit 100

        selfreward log --json --limit 1000 | jq -r 'select(.t == 2).message'
    """
    from selfreward.terminal import blocks
    from selfreward.terminal import log as events

    browse, run = _open(directory)
    kinds = _kinds(browse, run, kind or [], follow)
    sheet = blocks.sheet_on()
    last = 0
    for event in events.newest(browse, run.id, limit, kinds) if limit else ():
        events.print_event(event) if as_json else events.show_event(event, sheet)
        last = event.id
    if not follow:
        return
    try:
        for event in events.following(browse, run.id, last or _newest_id(browse, run), kinds):
            events.print_event(event) if as_json else events.show_event(event, sheet)
    except KeyboardInterrupt:
        return


def _open(directory: Path) -> tuple["Browse", "RunRow"]:
    from selfreward.store.browse import Browse

    settings = settings_of(directory)
    store = open_store(settings, directory)
    return Browse(store.database), find_run(store, settings)


def _nothing(first: str, second: str, prompt: int | None, answered: int) -> BadInput:
    if prompt is not None and answered:
        return BadInput(
            f"prompt {prompt} was not answered by both {first} and {second}",
            f"They have answered {answered} held-out prompts: selfreward diff {first} {second}",
        )
    return BadInput(
        f"there is no held-out prompt that both {first} and {second} have answered",
        "Let them answer: selfreward eval",
    )


def _kinds(browse: "Browse", run: "RunRow", kinds: list[str], follow: bool) -> list[str]:
    """The kinds that were asked for. Raises BadInput for one that the run does not have."""
    known = browse.event_kinds(run.id)
    unknown = [kind for kind in kinds if kind not in known]
    if unknown and not follow:
        raise BadInput(
            f"no event of run {run.name!r} is of kind {unknown[0]!r}", f"Kinds: {', '.join(known)}."
        )
    return kinds


def _newest_id(browse: "Browse", run: "RunRow") -> int:
    newest = browse.events(run.id, limit=1).rows
    return newest[-1].id if newest else 0
