"""The application: routers, static files, and the guard around them."""

from fastapi import Depends, FastAPI
from starlette.staticfiles import StaticFiles

from selfreward.web import (
    checkpoints,
    comparisons,
    control,
    health,
    iterations,
    live,
    metrics,
    plots,
    prompts,
    query,
    runs,
)
from selfreward.web.failures import handle_failures, schema_ready
from selfreward.web.kept import Kept
from selfreward.web.rendering import STATIC
from selfreward.web.security import Guard
from selfreward.web.site import Site

PAGES = (runs, iterations, plots, live, control, prompts, query, checkpoints, comparisons)
"""What needs a database with a schema. Each module has a `router` …"""
ALWAYS = (health, metrics)
"""… and what answers without one."""


def create_app(site: Site) -> FastAPI:
    """The pages of one database as an ASGI application."""
    app = FastAPI(title="selfreward", docs_url=None, redoc_url=None, openapi_url=None)
    app.state.site, app.state.kept = site, Kept(site)
    handle_failures(app)
    for module in PAGES:
        app.include_router(module.router, dependencies=[Depends(schema_ready)])
    for module in ALWAYS:
        app.include_router(module.router)
    app.mount("/static", StaticFiles(directory=STATIC))
    app.add_middleware(Guard, site=site)
    return app
