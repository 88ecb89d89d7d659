"""Plots of a run as SVG, light and dark. They are images: a page shows its figures before they are drawn."""

from typing import Annotated, Literal

from fastapi import APIRouter, Query, Request, Response

from selfreward.web.charting import Source, chart
from selfreward.web.kept import KeptNeeded, tag_of
from selfreward.web.site import MOST, Missing, RunNeeded, SiteNeeded

router = APIRouter()

POLICY = "default-src 'none'; style-src 'unsafe-inline'"
"""Of a drawing that is opened by itself: matplotlib writes colours as style attributes. No script runs."""
Theme = Literal["light", "dark"]
Iteration = Annotated[int | None, Query(ge=0, le=MOST)]


@router.get("/runs/{run}/plots/{name}.svg")
def plot(
    request: Request,
    site: SiteNeeded,
    kept: KeptNeeded,
    run: RunNeeded,
    name: str,
    theme: Theme = "light",
    t: Iteration = None,
) -> Response:
    """One plot; of iteration `t` alone where it is given. 304 where the browser has these very figures."""
    made = chart(Source(store=site.store, figures=kept.figures, run=run, t=t), name)
    if made is None:
        raise Missing(f"there is nothing to plot as {name[:40]!r} in run {run.name!r}", "See the run's page.")
    headers = {"ETag": tag_of(made, theme), "Content-Security-Policy": POLICY}
    if headers["ETag"] in request.headers.get("if-none-match", ""):
        return Response(status_code=304, headers=headers)
    return Response(kept.drawn.svg(made, theme), media_type="image/svg+xml", headers=headers)
