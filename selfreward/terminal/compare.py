"""`selfreward compare A B`: two runs over the same candidates, and how far their judges agree."""

from collections.abc import Iterable, Iterator
from itertools import groupby

from rich.console import RenderableType
from rich.table import Table
from rich.text import Text

from selfreward.comparing import Agreement, Compared, Estimate, FigureLine, PairChanges, PositionBias, Side
from selfreward.terminal.blocks import DIM, MARK, Sheet, columns, facts, heading, number, plain
from selfreward.text import printable

NOTHING = "–"


def show_comparison(found: Compared, sheet: Sheet) -> None:
    """What both made of the candidates, agreement of the judges, pairs, figures, settings."""
    sheet.show(_comparison(found, sheet))


def _comparison(found: Compared, sheet: Sheet) -> Iterator[RenderableType]:
    a, b = found.a.run, found.b.run
    yield heading(f"{a} and {b}", f"iteration {found.t}", f"{found.candidates:,} candidates shared")
    yield Text()
    yield _beside("", (a, b), _sides(found))
    yield Text()
    yield heading("pairs")
    yield facts(_pairs(found.pairs, a, b))
    yield Text()
    yield heading("judges")
    yield from _judges(found.agreement)
    for section, lines in groupby(found.evaluation, key=lambda line: line.section):
        yield Text()
        names = (f"{found.a.checkpoint} of {a}", f"{found.b.checkpoint} of {b}")
        yield _beside(section, names, map(_figure_line, lines))
    if not found.evaluation:
        yield Text()
        yield Text(f"{found.a.checkpoint} was measured in neither run: selfreward eval", DIM)
    yield Text()
    if found.settings:
        different = ((each.key, plain(each.a), plain(each.b)) for each in found.settings)
        yield _beside("settings that differ", (a, b), different)
    else:
        yield Text("no setting differs that changes what a run makes", DIM)
    yield sheet.go_on(f"show iteration {found.t} --run {b}", f"report --run {b}")


def _beside(
    title: str, names: tuple[str, str], rows: Iterable[tuple[str, RenderableType, RenderableType]]
) -> Table:
    """A line for each thing, a column for each run; both fold on a narrow terminal."""
    table = columns(title, *(printable(name) for name in names))
    for label, left, right in rows:
        table.add_row(_label(label), left, right)
    return table


def _label(label: str) -> Text:
    name, _, unit = label.partition("\n")
    return Text.assemble(name, (f"\n{unit}" if unit else "", DIM))


def _figure_line(line: FigureLine) -> tuple[str, Text, Text]:
    a, b = map(_figure, line.shown)
    return f"{line.label}\n{line.unit}", a, b


def _figure(texts: tuple[str, str, str]) -> Text:
    value, n, interval = texts
    return Text.assemble(value, (f" {n}" if n else "", DIM), (f"\n{interval}" if interval else "", DIM))


def _sides(found: Compared) -> Iterator[tuple[str, Text, Text]]:
    for label, value in (
        ("judge", lambda side: side.judge or "nobody yet"),
        ("pair rule", lambda side: side.rule),
        ("objective", lambda side: side.objective),
        ("prompts decided", lambda side: f"{side.prompts:,}"),
        ("pairs trained on", _pair_count),
        ("yield", lambda side: percent(side.yield_share)),
        ("outcomes", lambda side: ", ".join(f"{n:,} {name}" for name, n in side.outcomes.items())),
        ("mean margin", lambda side: number(side.mean_margin)),
        ("mean soft label", _soft_label),
        ("loss", lambda side: _ends(side.loss)),
        ("reward margin", lambda side: _ends(side.margin)),
        ("steps", lambda side: f"{side.steps:,}"),
        ("position bias", lambda side: bias(side.position_bias)),
        ("trained", lambda side: side.checkpoint if side.trained else "not yet"),
    ):
        left, right = value(found.a), value(found.b)
        if {left, right} != {NOTHING}:
            yield label, plain(left or NOTHING), plain(right or NOTHING)


def _pair_count(side: Side) -> str:
    return f"{side.pairs:,}" + (f" ({side.imported:,} imported)" if side.imported else "")


def _soft_label(side: Side) -> str:
    return f"{number(side.soft_label, 3)} ({side.soft_labels:,} pairs)" if side.soft_labels else NOTHING


def _ends(values: tuple[float | None, float | None]) -> str:
    return NOTHING if values[0] is None else f"{number(values[0], 3)} → {number(values[1], 3)}"


def bias(found: PositionBias | None) -> str:
    """Position bias in words."""
    if found is None:
        return NOTHING
    flipped = "" if found.flipped_share is None else f", {percent(found.flipped_share)} turn with the order"
    return f"first place {percent(found.first_share)}{flipped} (n {found.comparisons:,})"


def _pairs(found: PairChanges, a: str, b: str) -> Iterator[tuple[str, Text]]:
    yield "the same in both", Text(f"{found.both:,}")
    yield "chosen and rejected swapped", Text(f"{found.swapped:,}")
    yield f"only in {printable(a)}", Text(f"{found.only_a:,}")
    yield f"only in {printable(b)}", Text(f"{found.only_b:,}")
    yield "prompts paired in both", Text(f"{found.prompts_both:,}")


def _judges(found: Agreement | None) -> Iterator[RenderableType]:
    if found is None:
        yield Text("one of them has not judged yet", DIM)
        return
    means, ties = ([*map(number, found.mean_scores)], [*map(percent, found.tie_shares)])
    yield facts(
        (
            ("Kendall τ", estimate(found.kendall, "prompts")),
            ("Cohen κ of the verdicts", estimate(found.kappa, "couples")),
            ("the same verdict", Text(percent(found.same_verdict))),
            ("correlation of the scores", Text(f"{number(found.correlation)} (n {found.candidates:,})")),
            ("mean scores", Text(" and ".join(means))),
            ("ties", Text(" and ".join(ties))),
        )
    )


def estimate(found: Estimate, items: str) -> Text:
    """A coefficient with its interval and what it was measured on."""
    interval = "" if found.low is None else f" [{number(found.low)}, {number(found.high)}]"
    return Text.assemble((number(found.value), MARK), (f"{interval} n {found.n:,} {items}", DIM))


def percent(share: float | None) -> str:
    """A share from 0 to 1."""
    return NOTHING if share is None else f"{100 * share:.1f}%"
