"""Pages that say what was wrong with a request, in the layout of all others. Never a traceback."""

from fastapi import FastAPI, Request, Response
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException

from selfreward.errors import BadInput, NotRunning, SelfRewardError, StoreError
from selfreward.store.migrate import current_revision, require_head
from selfreward.web.rendering import render
from selfreward.web.site import Missing, SiteNeeded

TITLES = {
    400: "That cannot be shown",
    401: "A token is needed",
    403: "Not allowed",
    404: "There is no such page",
    405: "Not like this",
    409: "No daemon is running",
    503: "The database cannot be read",
}
STATUSES: tuple[tuple[type[SelfRewardError], int], ...] = ((Missing, 404), (BadInput, 400), (NotRunning, 409))
"""What else goes wrong is the database: 503."""


class NoSchema(StoreError):
    """The database is empty: nothing has been started yet."""


def schema_ready(request: Request, site: SiteNeeded) -> None:
    """Refuse pages of a database without a schema, or with that of another version. Asked until it fits."""
    if getattr(request.app.state, "schema_fits", False):
        return
    if current_revision(site.store.database) is None:
        raise NoSchema("this database has no tables yet", "The first start makes them: selfreward start")
    require_head(site.store.database)
    request.app.state.schema_fits = True


def handle_failures(app: FastAPI) -> None:
    """Have every error of a request answered by a page."""

    @app.exception_handler(SelfRewardError)
    def known(request: Request, error: SelfRewardError) -> Response:
        status = next((code for kind, code in STATUSES if isinstance(error, kind)), 503)
        title = "Nothing here yet" if isinstance(error, NoSchema) else TITLES[status]
        return _page(request, status, title, error.message, error.hint)

    @app.exception_handler(RequestValidationError)
    def unusable(request: Request, error: RequestValidationError) -> Response:
        found = error.errors()[0]
        where = " ".join(str(part) for part in found["loc"][1:])
        return _page(request, 400, TITLES[400], f"{where}: {found['msg']}", "")

    @app.exception_handler(HTTPException)
    def refused(request: Request, error: HTTPException) -> Response:
        title = TITLES.get(error.status_code, "That did not work")
        told = request.url.path if error.status_code == 404 else str(error.detail)
        return _page(request, error.status_code, title, told, "")


def _page(request: Request, status: int, title: str, message: str, hint: str) -> Response:
    return render(request, "failure.html", status, heading=title, message=message, hint=hint)
