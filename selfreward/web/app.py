"""The application: routers, static files, and the guard around them."""

from fastapi import Depends, FastAPI
from starlette.staticfiles import StaticFiles

from selfreward.web import control, iterations, live, plots, runs
from selfreward.web.failures import handle_failures, schema_ready
from selfreward.web.rendering import STATIC
from selfreward.web.security import Guard
from selfreward.web.site import Site

PAGES = (runs, iterations, plots, live, control)
"""What needs a database with a schema. Each module has a `router`."""


def create_app(site: Site) -> FastAPI:
    """The pages of one database as an ASGI application."""
    app = FastAPI(title="selfreward", docs_url=None, redoc_url=None, openapi_url=None)
    app.state.site = site
    handle_failures(app)
    for module in PAGES:
        app.include_router(module.router, dependencies=[Depends(schema_ready)])
    app.mount("/static", StaticFiles(directory=STATIC))
    app.add_middleware(Guard, site=site)
    return app
