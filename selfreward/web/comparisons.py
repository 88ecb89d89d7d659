"""Two runs over the same candidates: a form to choose them, and what `selfreward compare` says of them."""

from typing import Annotated, Any

from fastapi import APIRouter, Query, Request, Response

from selfreward.comparing import Compared, Estimate, PositionBias, Side
from selfreward.errors import BadInput
from selfreward.report.compared import gather_comparison
from selfreward.report.table import LEGEND
from selfreward.types import RunRow
from selfreward.web.rendering import NOTHING, number, percent, render
from selfreward.web.site import MOST, Site, SiteNeeded, run_named

router = APIRouter()

Name = Annotated[str, Query(max_length=64)]
Iteration = Annotated[int | None, Query(ge=0, le=MOST)]


@router.get("/compare")
def compare(request: Request, site: SiteNeeded, a: Name = "", b: Name = "", t: Iteration = None) -> Response:
    """Runs `a` and `b` in iteration `t`; the form alone while they are not chosen."""
    runs = [run_named(site, name) if name else None for name in (a, b)]
    found, refused = _compared(site, runs[0], runs[1], t)
    return render(
        request,
        "compare.html",
        names=site.store.runs.names(),
        chosen=(a, b),
        found=found,
        refused=refused,
        sides=_sides(found) if found else [],
        interval=interval,
        legend=LEGEND[:1],
    )


def _compared(
    site: Site, a: RunRow | None, b: RunRow | None, t: int | None
) -> tuple[Compared | None, BadInput | None]:
    """The comparison, or why there can be none."""
    if a is None or b is None:
        return None, None
    try:
        return gather_comparison(site.store, a, b, t), None
    except BadInput as refused:
        return None, refused


def interval(found: Estimate) -> str:
    """That of a coefficient; nothing where there is none."""
    return "" if found.low is None else f"[{number(found.low, 2)}, {number(found.high, 2)}]"


def _sides(found: Compared) -> list[tuple[str, str, str]]:
    """What both made of the candidates, line by line."""
    rows: list[tuple[str, Any]] = [
        ("Judge", lambda side: side.judge or "nobody yet"),
        ("Pair rule", lambda side: side.rule),
        ("Objective", lambda side: side.objective),
        ("Prompts decided", lambda side: number(side.prompts)),
        ("Pairs trained on", _pairs),
        ("Prompts with a pair", lambda side: percent(side.yield_share)),
        ("Outcomes", lambda side: ", ".join(f"{n:,} {name}" for name, n in side.outcomes.items())),
        ("Mean margin", lambda side: number(side.mean_margin, 2)),
        ("Mean soft label", _soft_label),
        ("Loss", lambda side: _ends(side.loss)),
        ("Reward margin", lambda side: _ends(side.margin)),
        ("Steps", lambda side: number(side.steps)),
        ("Position bias", lambda side: _bias(side.position_bias)),
    ]
    shown = [(label, said(found.a) or NOTHING, said(found.b) or NOTHING) for label, said in rows]
    return [row for row in shown if row[1:] != (NOTHING, NOTHING)]


def _pairs(side: Side) -> str:
    return number(side.pairs) + (f" ({number(side.imported)} imported)" if side.imported else "")


def _soft_label(side: Side) -> str:
    return f"{number(side.soft_label, 3)} ({number(side.soft_labels)} pairs)" if side.soft_labels else NOTHING


def _ends(values: tuple[float | None, float | None]) -> str:
    return NOTHING if values[0] is None else f"{number(values[0], 3)} → {number(values[1], 3)}"


def _bias(found: PositionBias | None) -> str:
    if found is None:
        return NOTHING
    return f"first place {percent(found.first_share)}, {percent(found.flipped_share)} turn with the order"
