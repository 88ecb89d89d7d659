"""Pause, resume and stop, for those who know the token: rows for the daemon, as the commands leave them."""

import asyncio
from typing import Annotated

from fastapi import APIRouter, Form, Request, Response
from fastapi.responses import RedirectResponse

from selfreward.errors import NotRunning
from selfreward.types import ControlAction
from selfreward.web.rendering import render
from selfreward.web.security import is_token, log_in, log_out, logged_in
from selfreward.web.site import RunNeeded, SiteNeeded
from selfreward.web.watching import settings_of

router = APIRouter()

SEE_OTHER = 303
WRONG_TOKEN_S = 1.0
"""How long a wrong token has to wait for its answer: guessing is slow."""
LONGEST_TOKEN = 400


@router.get("/login")
def login(request: Request) -> Response:
    """The form that asks for the token."""
    return render(request, "login.html", wrong=False)


@router.post("/login")
async def check_in(
    request: Request, site: SiteNeeded, token: Annotated[str, Form(max_length=LONGEST_TOKEN)] = ""
) -> Response:
    """A cookie for the token, or the form once more."""
    if not is_token(site, token):
        await asyncio.sleep(WRONG_TOKEN_S)
        return await asyncio.to_thread(render, request, "login.html", 401, wrong=True)
    response = RedirectResponse("/", SEE_OTHER)
    log_in(request, response)
    return response


@router.post("/logout")
def leave(request: Request) -> Response:
    """Take the cookie back."""
    response = RedirectResponse("/", SEE_OTHER)
    log_out(request, response)
    return response


@router.post("/runs/{run}/control")
def control(
    request: Request, site: SiteNeeded, run: RunNeeded, action: Annotated[ControlAction, Form()]
) -> Response:
    """Ask the run's daemon. 401 without the token, 409 when there is no daemon to ask."""
    if not logged_in(request):
        hint = "Log in with the token that `selfreward serve` was started with."
        if site.token is None:
            hint = "Start it with one: SELFREWARD_TOKEN=… selfreward serve"
        told = {"heading": "A token is needed", "message": f"nobody is asked to {action}", "hint": hint}
        return render(request, "failure.html", 401, **told)
    if not site.store.leases.running(run.id, settings_of(site, run).daemon.lease_timeout_s):
        raise NotRunning(
            f"no daemon is running for {run.name!r}", "Start it on its machine: selfreward start"
        )
    site.store.journal.ask(run.id, action)
    return RedirectResponse(f"/runs/{run.name}", SEE_OTHER)
