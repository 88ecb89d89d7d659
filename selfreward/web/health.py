"""`/healthz` and `/readyz`: whether this process is alive, and whether what it serves can be used."""

import asyncio

from fastapi import APIRouter
from fastapi.responses import JSONResponse

from selfreward import __version__
from selfreward.errors import SelfRewardError
from selfreward.store.migrate import require_head
from selfreward.web.site import Site, SiteNeeded

router = APIRouter()


@router.get("/healthz", include_in_schema=False)
async def healthz() -> JSONResponse:
    """This process answers. Nothing else is looked at: a database that is away is no reason to kill it."""
    return JSONResponse({"status": "ok", "version": __version__})


@router.get("/readyz", include_in_schema=False)
async def readyz(site: SiteNeeded, run: str | None = None) -> JSONResponse:
    """The database is reachable and its schema is that of this version; with `run`, its daemon is alive.

    200, or 503 with the reasons.
    """
    reasons = await asyncio.to_thread(reasons_against, site, run)
    status = {"status": "not ready" if reasons else "ready", "reasons": reasons}
    return JSONResponse(status, status_code=503 if reasons else 200)


def reasons_against(site: Site, run: str | None) -> list[str]:
    """Why it is not ready, for people; empty when it is. Blocks: called in a thread."""
    try:
        require_head(site.store.database)
        return [] if run is None else list(_reasons_against_daemon(site, run))
    except SelfRewardError as error:
        return [str(error)]


def _reasons_against_daemon(site: Site, name: str) -> list[str]:
    timeout = site.settings.daemon.lease_timeout_s
    run = site.store.runs.find(name[:64])
    if run is None:
        return [f"there is no run {name[:64]!r}"]
    if site.store.leases.running(run.id, timeout):
        return []
    lease = site.store.leases.find(run.id)
    if lease is None:
        return [f"run {run.name!r} was never started"]
    left = (
        "has given it back"
        if lease.released
        else f"gave its last sign of life at {lease.heartbeat_at:%Y-%m-%d %H:%M:%S} UTC"
    )
    return [f"no daemon is alive on run {run.name!r}: {lease.owner} {left}"]
