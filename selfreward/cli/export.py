"""Commands that export: data sets, models, and answers for other judges."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from selfreward.cli.options import DATA, Dir, RunName, find_run, open_store, settings_of
from selfreward.errors import BadInput

if TYPE_CHECKING:
    from selfreward.exports.data import Written
    from selfreward.exports.kinds import Format, Wanted
    from selfreward.store import Store
    from selfreward.types import RunRow

DATASET = "selfreward_held_out"

commands = typer.Typer()
exports = typer.Typer(
    help="Data sets and models for other programs, with a card that says where they come from.",
    no_args_is_help=True,
)
commands.add_typer(exports, name="export", rich_help_panel=DATA)

Destination = Annotated[
    Path,
    typer.Argument(
        metavar="DEST", help="A new directory; or, without a card, one file: NAME.parquet or NAME.jsonl."
    ),
]
Iteration = Annotated[int | None, typer.Option("--iteration", "-t", min=0, help="The iteration to export.")]
All = Annotated[bool, typer.Option("--all", help="Every iteration, those before a fork too.")]
Form = Annotated[
    str | None,
    typer.Option(
        "--format",
        metavar="parquet|jsonl|hf",
        help="hf: what `datasets.load_from_disk` opens.",
        show_default="as DEST ends, else parquet",
    ),
]
Force = Annotated[bool, typer.Option("--force", help="Replace an earlier export that is there.")]
Push = Annotated[
    str | None,
    typer.Option(
        metavar="OWNER/NAME",
        help="Also put it on the hub, as a private repository unless it is there already.",
    ),
]
Public = Annotated[bool, typer.Option("--public", help="With --push: make the repository a public one.")]


@exports.command("pairs")
def export_pairs(
    destination: Destination,
    iteration: Iteration = None,
    everything: All = False,
    form: Form = None,
    with_excluded: Annotated[
        bool, typer.Option("--with-excluded", help="Those too that were too long to train on.")
    ] = False,
    force: Force = False,
    push: Push = None,
    public: Public = False,
    directory: Dir = Path(),
    run_name: RunName = None,
) -> None:
    """Preference pairs in TRL's conversational format: `prompt`, `chosen`, `rejected`, scores and ids.

    Examples:

        selfreward export pairs --iteration 1 --format parquet out/

        python -c "import datasets; print(datasets.load_dataset('parquet', data_files='out/*.parquet'))"

        selfreward export pairs --all all-pairs.jsonl
    """
    from selfreward.exports.kinds import Kind, Wanted

    _chosen(iteration, everything)
    wanted = Wanted(kind=Kind.PAIRS, iteration=iteration, with_excluded=with_excluded)
    _export(wanted, form, destination, force, push, public, directory)


@exports.command("candidates")
def export_candidates(
    destination: Destination,
    iteration: Iteration = None,
    everything: All = False,
    form: Form = None,
    force: Force = False,
    push: Push = None,
    public: Public = False,
    directory: Dir = Path(),
    run_name: RunName = None,
) -> None:
    """Every answer with its prompt, status, length, log-probability and mean score.

    Examples:

        selfreward export candidates --iteration 2 candidates/

        selfreward export candidates --all --format jsonl candidates/
    """
    from selfreward.exports.kinds import Kind, Wanted

    _chosen(iteration, everything)
    wanted = Wanted(kind=Kind.CANDIDATES, iteration=iteration)
    _export(wanted, form, destination, force, push, public, directory)


@exports.command("judgements")
def export_judgements(
    destination: Destination,
    iteration: Iteration = None,
    everything: All = False,
    form: Form = None,
    force: Force = False,
    push: Push = None,
    public: Public = False,
    directory: Dir = Path(),
    run_name: RunName = None,
) -> None:
    """Every judgement with its whole text, what was judged, the score, and which judge gave it.

    Examples:

        selfreward export judgements --iteration 2 judgements/

        selfreward export judgements --iteration 2 --run beta05 judgements.jsonl
    """
    from selfreward.exports.kinds import Kind, Wanted

    _chosen(iteration, everything)
    wanted = Wanted(kind=Kind.JUDGEMENTS, iteration=iteration)
    _export(wanted, form, destination, force, push, public, directory)


@exports.command("sft")
def export_sft(
    destination: Destination,
    iteration: Iteration = None,
    everything: All = False,
    form: Form = None,
    least_score: Annotated[
        float | None,
        typer.Option(min=0, max=5, help="Best answers: only those with at least this mean score."),
    ] = None,
    force: Force = False,
    push: Push = None,
    public: Public = False,
    directory: Dir = Path(),
    run_name: RunName = None,
) -> None:
    """Examples for SFT in TRL's conversational format: `prompt` and `completion`.

    Of iteration 0 these are the examples that the bootstrap kept; of every later one the best-scored
    answer to each prompt.

    Examples:

        selfreward export sft --iteration 0 bootstrap/

        selfreward export sft --iteration 2 --least-score 4 best.jsonl && selfreward seeds import best.jsonl
    """
    from selfreward.exports.kinds import Kind, Wanted

    _chosen(iteration, everything)
    wanted = Wanted(kind=Kind.SFT, iteration=iteration, least_score=least_score)
    _export(wanted, form, destination, force, push, public, directory)


@exports.command("model")
def export_model(
    checkpoint: Annotated[str, typer.Argument(help="Which one, as M_2.")],
    destination: Annotated[Path, typer.Argument(metavar="DEST", help="A new directory.")],
    link: Annotated[
        bool,
        typer.Option(
            "--link",
            help="Hard-link the weights: no disk, but whoever changes them there changes the run's own.",
        ),
    ] = False,
    force: Force = False,
    push: Push = None,
    public: Public = False,
    directory: Dir = Path(),
    run_name: RunName = None,
) -> None:
    """A checkpoint as transformers and vLLM load it, every byte verified, with a model card.

    Examples:

        selfreward export model M_3 my-model/

        selfreward export model M_3 my-model/ --push me/my-model
    """
    from selfreward.exports import models
    from selfreward.exports.hub import check_repository

    if push is not None:
        check_repository(push)
    store, run = _opened(directory)
    models.export_model(
        store, run, directory, checkpoint, destination, force=force, link=link, hub_name=push or ""
    )
    print(f"wrote {checkpoint} to {destination}")
    if push is not None:
        _push(destination, push, "model", public)


@exports.command("answers")
def export_answers(
    checkpoint: Annotated[str, typer.Argument(help="Whose answers, as M_2.")],
    file: Annotated[Path, typer.Argument(help="The file to write.")],
    directory: Dir = Path(),
    run_name: RunName = None,
) -> None:
    """A checkpoint's answers to the held-out prompts, as AlpacaEval's `model_outputs.json`.

    Examples:

        selfreward export answers M_2 model_outputs.json

        alpaca_eval --model_outputs model_outputs.json
    """
    from selfreward.exports.alpaca import alpaca_outputs, write_outputs
    from selfreward.exports.models import find_checkpoint
    from selfreward.types import Split

    store, run = _opened(directory)
    held_out = {row.id for row in store.prompts.seeds(run.id, Split.HELD_OUT)}
    answers = store.answers.of(find_checkpoint(store, run, checkpoint).id)
    texts = [(answer.prompt, answer.text) for answer in answers if answer.prompt_id in held_out]
    outputs = alpaca_outputs(texts, f"selfreward-{run.name}-{checkpoint}", DATASET)
    write_outputs(file, outputs)
    print(f"wrote {len(outputs)} answers of {checkpoint} to {file}")


def _chosen(iteration: int | None, everything: bool) -> None:
    if (iteration is None) != everything:
        both = "both --iteration and --all" if everything else "neither --iteration nor --all"
        raise BadInput(f"{both} were given", "Say which rows: --iteration 2, or --all.")


def _export(
    wanted: "Wanted",
    form: str | None,
    destination: Path,
    force: bool,
    push: str | None,
    public: bool,
    directory: Path,
) -> None:
    from selfreward.exports.data import FILES, export_data
    from selfreward.exports.hub import check_repository

    chosen = _format(form, destination)
    if push is not None:
        if destination.suffix in FILES:
            raise BadInput(
                "--push needs a directory, with a card", f"Not {destination}, but a DEST without suffix."
            )
        check_repository(push)
    store, run = _opened(directory)
    _tell(wanted, export_data(store, run, wanted, chosen, destination, force))
    if push is not None:
        _push(destination, push, "dataset", public)


def _format(name: str | None, destination: Path) -> "Format":
    """The format that was named, or as the destination ends. Raises BadInput when the two differ."""
    from selfreward.exports.data import FILES
    from selfreward.exports.kinds import Format

    ending = FILES.get(destination.suffix)
    if name is None:
        return ending or Format.PARQUET
    if name not in set(Format):
        raise BadInput(f"--format {name} is not known", f"Formats: {', '.join(Format)}.")
    if ending is not None and ending != name:
        raise BadInput(f"{destination} does not end as --format {name} has it", "Leave one of them out.")
    return Format(name)


def _opened(directory: Path) -> "tuple[Store, RunRow]":
    settings = settings_of(directory)
    store = open_store(settings, directory)
    return store, find_run(store, settings)


def _tell(wanted: "Wanted", written: "Written") -> None:
    iterations = ", ".join(map(str, written.iterations))
    many = "iterations" if len(written.iterations) > 1 else "iteration"
    what = "examples" if wanted.kind == "sft" else str(wanted.kind)
    print(f"wrote {written.rows} {what} of {many} {iterations} to {written.destination}")


def _push(folder: Path, repository: str, kind: str, public: bool) -> None:
    from selfreward.exports import hub

    address = hub.push(folder.resolve(), repository, "model" if kind == "model" else "dataset", public=public)
    print(f"pushed it to {address}")
