"""`selfreward seeds`: bring in instructions and ranked replies, and look at those that a run has."""

import json
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from selfreward.cli.options import Dir, Json, RunName, find_run, open_store, settings_of
from selfreward.errors import BadInput
from selfreward.text import printable
from selfreward.types import RankedReply, Seed, Split

if TYPE_CHECKING:
    from selfreward.seeds import SeedReading

commands = typer.Typer(help="The human-written instructions and ranked replies.", no_args_is_help=True)

COUNTS = ("seeds", "with_answer", "with_ranked_replies")


@commands.command("import")
def import_(
    files: Annotated[
        list[str],
        typer.Argument(metavar="FILE", help="Files, `builtin`, `builtin:ranked` or `hub:org/name`."),
    ],
    directory: Dir = Path(),
    run_name: RunName = None,
    held_out: Annotated[
        float | None,
        typer.Option(
            min=0,
            max=1,
            help="Share of the prompts with ranked replies that is kept for measuring, where a file does "
            "not say which.",
            show_default="seeds.held_out",
        ),
    ] = None,
    as_json: Json = False,
) -> None:
    """Read seeds from files and store them: all of them, or nothing when one cannot be understood.

    Takes OpenAssistant trees, plain JSONL and Self-Instruct tasks, gzipped or not, and Parquet; the
    kind is told by the content. What is left out is counted by reason. Importing the same again
    changes nothing.

    Examples:

        selfreward seeds import trees.jsonl.gz --dir runs/demo

        selfreward seeds import hub:OpenAssistant/oasst1 --held-out 0.1
    """
    from selfreward.continuity import require_made
    from selfreward.seeds import read_seeds
    from selfreward.store import Store

    settings = settings_of(directory)
    reading = read_seeds(files, Path(), settings.seeds.held_out if held_out is None else held_out)
    store = Store.open_or_create(settings.database.url, directory)
    require_made(store, settings, directory)
    run = store.runs.ensure(settings.name)
    if (shared := store.runs.node(run.id).seeds_run_id) is not None:
        whose = store.runs.tree()[shared].name
        raise BadInput(
            f"run {run.name!r} uses the seeds of run {whose!r}, from which it was forked",
            f"Import them there, with --run {whose}, or fork with --set seeds.files=….",
        )
    new = store.prompts.add_seeds(run.id, reading.seeds)
    (_print_import_json if as_json else _print_import)(run.name, reading, new)


@commands.command("list")
def list_(directory: Dir = Path(), run_name: RunName = None, as_json: Json = False) -> None:
    """How many seeds the run has, by the file they came from and by what they may be used for."""
    from selfreward.store.readonly import QueryResult
    from selfreward.terminal.tabular import print_json, print_table

    settings = settings_of(directory)
    store = open_store(settings, directory)
    rows = store.prompts.seed_origins(find_run(store, settings).id)
    result = QueryResult(columns=("origin", "split", *COUNTS), rows=tuple(rows), truncated=False)
    (print_json if as_json else print_table)(result)


@commands.command()
def show(
    seed_id: Annotated[int, typer.Argument(metavar="ID", help="The seed's id: prompt.id in SQL.")],
    directory: Dir = Path(),
    run_name: RunName = None,
    as_json: Json = False,
) -> None:
    """One seed whole: its prompt, the answer, and the ranked replies with score and justification.

    Examples:

        selfreward query "select id, split, text from prompt where source = 'seed'"

        selfreward seeds show 12
    """
    settings = settings_of(directory)
    store = open_store(settings, directory)
    run = find_run(store, settings)
    seed = store.prompts.seed(run.id, seed_id)
    if seed is None:
        raise BadInput(
            f"run {run.name!r} has no seed {seed_id}",
            "Their ids: selfreward query \"select id, text from prompt where source = 'seed'\"",
        )
    if as_json:
        print(json.dumps({"id": seed_id, **asdict(seed)}, indent=2, ensure_ascii=False))
    else:
        print(printable("\n".join(_described(seed_id, seed))))


def _print_import(run: str, reading: "SeedReading", new: int) -> None:
    from selfreward.store.readonly import QueryResult
    from selfreward.terminal.tabular import print_table

    print(f"run {run}: {len(reading.seeds)} seeds read, {new} of them new\n")
    splits = [_counts(reading.seeds, split) for split in Split]
    rows = tuple((name.replace("_", " "), *(split[name] for split in splits)) for name in COUNTS)
    print_table(QueryResult(columns=("", "train", "held out"), rows=rows, truncated=False))
    if reading.skipped:
        print()
        left_out = tuple(reading.skipped.items())
        print_table(QueryResult(columns=("left out", "times"), rows=left_out, truncated=False))


def _print_import_json(run: str, reading: "SeedReading", new: int) -> None:
    found: dict[str, Any] = {"run": run, "read": len(reading.seeds), "new": new}
    found |= {str(split): _counts(reading.seeds, split) for split in Split}
    print(json.dumps(found | {"left_out": dict(reading.skipped)}, indent=2))


def _counts(seeds: Sequence[Seed], split: Split) -> dict[str, int]:
    """How many seeds of a split there are, in the order of COUNTS."""
    mine = [seed for seed in seeds if seed.split is split]
    answered = sum(seed.answer is not None for seed in mine)
    ranked = sum(bool(seed.replies) for seed in mine)
    return dict(zip(COUNTS, (len(mine), answered, ranked), strict=True))


def _described(seed_id: int, seed: Seed) -> Iterator[str]:
    """The lines of `seeds show`."""
    yield f"seed {seed_id} from {seed.origin or 'an unknown place'}, {seed.split.replace('_', ' ')}"
    yield from ("", "prompt", _indented(seed.instruction))
    if seed.answer is not None:
        yield from ("", "answer", _indented(seed.answer))
    for position, reply in enumerate(seed.replies):
        yield from ("", f"reply {position}: {_standing(reply)}", _indented(reply.text))
        if reply.justification is not None:
            yield from ("  because", _indented(reply.justification))


def _standing(reply: RankedReply) -> str:
    parts = [f"rank {reply.rank}"]
    if reply.score is not None:
        parts.append(f"score {reply.score:g}")
    if reply.canary_of is not None:
        parts.append(f"canary: reply {reply.canary_of} with an order to the judge")
    return ", ".join(parts)


def _indented(text: str) -> str:
    return "\n".join(f"    {line}" for line in text.splitlines())
