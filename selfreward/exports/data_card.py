"""The card of a data set: what its rows are, where they come from and how good their judge is."""

from collections.abc import Mapping, Sequence
from itertools import groupby
from typing import Any

from selfreward.exports.cards import render
from selfreward.exports.columns import Column, columns
from selfreward.exports.facts import base_model, figures, lineage, settings_text
from selfreward.exports.kinds import ROWS, Format, Kind, Wanted
from selfreward.store import Store
from selfreward.store.exported import JudgeFacts, Message, Source
from selfreward.store.exporting import Exporting
from selfreward.types import RunRow, Suite

WHAT = {
    Kind.PAIRS: "Preference pairs: of the answers that a model gave to one prompt, the one that it judged "
    "best and the one that it judged worst. The next checkpoint was trained on them by DPO.",
    Kind.CANDIDATES: "Every answer that a model gave to its prompts, with the mean of the scores it gave "
    "them as its own judge.",
    Kind.JUDGEMENTS: "Every judgement of an answer: the judge's whole reply, and the score that was read in "
    "it. A reply in which none could be read is there too, without a score.",
    Kind.SFT: "Prompts with a completion worth learning: of iteration 0 the examples that the bootstrap "
    "kept, of later ones the best-scored answer to each prompt.",
}
TRL_FORMAT = {Kind.PAIRS: "`prompt`, `chosen` and `rejected`", Kind.SFT: "`prompt` and `completion`"}
SIZES = (
    (10**3, "n<1K"),
    (10**4, "1K<n<10K"),
    (10**5, "10K<n<100K"),
    (10**6, "100K<n<1M"),
    (10**7, "1M<n<10M"),
)
SECTIONS = ("self_instruct", "sample", "judge", "pair")
BOOTSTRAP_SECTIONS = ("bootstrap", "judge")
TYPES: dict[Any, str] = {
    str: "text",
    int: "integer",
    float: "number",
    tuple[Message, ...]: "list of {role, content}",
    tuple[float, ...]: "list of numbers",
}


def data_card(
    store: Store,
    run: RunRow,
    wanted: Wanted,
    form: Format,
    sources: Sequence[Source],
    rows: Mapping[int, int],
    of: Mapping[int, str],
) -> str:
    """The README.md of an export. `rows` and `of`: how many rows each iteration gave, and of what."""
    judges = _judges(store, sources)
    names = {source.written_by for source in sources} | {judge.checkpoint or "" for judge in judges.values()}
    which = "all iterations" if wanted.iteration is None else f"iteration {wanted.iteration}"
    return render(
        "data.md.jinja",
        kind=str(wanted.kind),
        title=f"{wanted.kind.capitalize()} of {which} of run {run.name}",
        what=WHAT[wanted.kind],
        trl_format=TRL_FORMAT.get(wanted.kind, ""),
        size_category=next((name for most, name in SIZES if sum(rows.values()) < most), "10M<n<100M"),
        data_files=_pattern(wanted, form),
        load=_load(wanted, form),
        iterations=[_line(source, judges, rows, of) for source in sources],
        columns=[_described(column) for column in columns(ROWS[wanted.kind])],
        base_model=base_model(store, run.id),
        lineage=lineage(store, run.id, names),
        judges=list(judges.values()),
        figures=figures(store, run.id, {judge.checkpoint or "" for judge in judges.values()}, {Suite.JUDGE}),
        settings=_settings(store, run, sources),
        command=command(run, wanted, form),
    )


def command(run: RunRow, wanted: Wanted, form: Format) -> str:
    """The command that makes the same export again."""
    parts = ["selfreward export", wanted.kind, f"--run {run.name}"]
    parts.append("--all" if wanted.iteration is None else f"--iteration {wanted.iteration}")
    parts += ["--with-excluded"] if wanted.with_excluded else []
    parts += [] if wanted.least_score is None else [f"--least-score {wanted.least_score:g}"]
    return " ".join([*parts, f"--format {form}", "DEST"])


def _pattern(wanted: Wanted, form: Format) -> str:
    """The data files, one or several."""
    if form is Format.HF:
        return "data-*.arrow"
    return f"{wanted.stem}*.parquet" if form is Format.PARQUET else f"{wanted.stem}.jsonl"


def _load(wanted: Wanted, form: Format) -> str:
    if form is Format.HF:
        return 'import datasets\n\nrows = datasets.load_from_disk("DEST")'
    builder = "json" if form is Format.JSONL else "parquet"
    files = f"DEST/{_pattern(wanted, form)}"
    return (
        f'import datasets\n\nrows = datasets.load_dataset("{builder}", data_files="{files}", split="train")'
    )


def _judges(store: Store, sources: Sequence[Source]) -> dict[int, JudgeFacts]:
    exporting = Exporting(store.database)
    found = {
        source.judge_id: exporting.judge(source.judge_id) for source in sources if source.judge_id is not None
    }
    return {key: judge for key, judge in found.items() if judge is not None}


def _line(
    source: Source, judges: Mapping[int, JudgeFacts], rows: Mapping[int, int], of: Mapping[int, str]
) -> dict[str, Any]:
    judge = None if source.judge_id is None else judges.get(source.judge_id)
    return {
        "t": source.t,
        "run": source.run,
        "written_by": source.written_by,
        "judged_by": None if judge is None else judge.checkpoint,
        "rows": rows[source.t],
        "of": of[source.t],
    }


def _described(column: Column) -> dict[str, str]:
    kind = TYPES[column.type] + (" or null" if column.nullable else "")
    return {"name": column.name, "kind": kind, "about": column.about}


def _settings(store: Store, run: RunRow, sources: Sequence[Source]) -> list[dict[str, str]]:
    """The settings of the iterations, once where they are the same."""
    shown = [
        (str(source.t), settings_text(store, run.id, source.t, SECTIONS if source.t else BOOTSTRAP_SECTIONS))
        for source in sources
    ]
    return [
        {"iterations": ", ".join(t for t, _ in group), "text": text}
        for text, group in groupby(shown, key=lambda pair: pair[1])
    ]
