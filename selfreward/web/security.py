"""Who may ask, from where, and what a page may load: Host, cross-site requests, headers and the token.

The pages show what models wrote, on a port of the reader's own machine. So a name that was made to point
here (DNS rebinding) is refused by the Host header, a form of another site by Origin and Sec-Fetch-Site,
and a page runs no script and loads nothing but its own files, whatever is in it.
"""

import hmac
import re
from collections.abc import Mapping
from urllib.parse import urlsplit

import structlog
from fastapi import Request
from fastapi.responses import PlainTextResponse, Response
from starlette.datastructures import Headers, MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from selfreward.web.site import Site, site_of

POLICY = "; ".join(
    (
        "default-src 'none'",
        "style-src 'self'",
        "script-src 'self'",
        "img-src 'self' data:",
        "connect-src 'self'",
        "form-action 'self'",
        "frame-ancestors 'none'",
        "base-uri 'none'",
    )
)
HEADERS: Mapping[str, str] = {
    "Content-Security-Policy": POLICY,
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "same-origin",  # with no-referrer a browser says "Origin: null" of our own forms
    "Cross-Origin-Resource-Policy": "same-origin",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cache-Control": "no-cache",
}
HOST = re.compile(r"(?:\[([0-9A-Fa-f:.]+)\]|([A-Za-z0-9._-]+))(?::\d{1,5})?")
READING = frozenset({"GET", "HEAD", "OPTIONS"})
OWN_SITE = frozenset({"same-origin", "none"})


class Guard:
    """ASGI middleware around everything else: refuses, and puts the headers on whatever is answered."""

    def __init__(self, app: ASGIApp, site: Site) -> None:
        self._app, self._site = app, site

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """See ASGI."""
        if scope["type"] != "http":
            return await self._app(scope, receive, send)
        answered = False

        async def protected(message: Message) -> None:
            nonlocal answered
            if message["type"] == "http.response.start":
                answered = True
                headers = MutableHeaders(scope=message)
                for name, value in HEADERS.items():
                    headers.setdefault(name, value)
            await send(message)

        refused = _refusal(scope, self._site.host_names)
        try:
            await (refused or self._app)(scope, receive, protected)
        except Exception:  # the boundary: a bug is logged with its traceback, the reader gets a plain answer
            structlog.get_logger().exception("request failed", path=scope["path"], method=scope["method"])
            if not answered:
                await _failed()(scope, receive, protected)


def _refusal(scope: Scope, host_names: frozenset[str]) -> Response | None:
    headers = Headers(scope=scope)
    host = headers.get("host", "")
    name = _host_name(host)
    if name not in host_names:
        told = (
            f"This server is not called {name[:80]!r}. If it should be: selfreward serve --allow-host NAME\n"
        )
        return PlainTextResponse(told, status_code=400)
    if scope["method"] not in READING and not _from_here(headers, host):
        return PlainTextResponse("A page of another site asked for this: refused.\n", status_code=403)
    return None


def _host_name(host: str) -> str:
    """The name without brackets and port; empty when it is no name."""
    found = HOST.fullmatch(host)
    return "" if found is None else (found[1] or found[2]).lower().rstrip(".")


def _from_here(headers: Headers, host: str) -> bool:
    """Browsers name where a form was: without both headers it is no browser, and has no cookie of ours."""
    origin, fetched = headers.get("origin"), headers.get("sec-fetch-site")
    if origin is not None and urlsplit(origin).netloc != host:
        return False
    return fetched is None or fetched in OWN_SITE


def _failed() -> Response:
    told = "Something is wrong in selfreward itself. The log of `selfreward serve` says what.\n"
    return PlainTextResponse(told, status_code=500)


def is_token(site: Site, offered: str) -> bool:
    """Whether it is the site's token, in a time that does not tell how much of it is right."""
    return site.token is not None and hmac.compare_digest(site.token.encode(), offered.encode())


def logged_in(request: Request) -> bool:
    """Whether a request carries the token: as `Authorization: Bearer …`, or by the cookie of /login."""
    site = site_of(request)
    if site.token is None:
        return False
    scheme, _, offered = request.headers.get("authorization", "").partition(" ")
    if scheme.lower() == "bearer" and is_token(site, offered.strip()):
        return True
    name, value = _cookie(site.token)
    return hmac.compare_digest(request.cookies.get(name, "").encode(), value.encode())


def log_in(request: Request, response: Response) -> None:
    """Give the browser the cookie. The token itself is not in it."""
    site = site_of(request)
    assert site.token is not None
    name, value = _cookie(site.token)
    secure = request.url.scheme == "https"
    response.set_cookie(name, value, httponly=True, samesite="strict", secure=secure, path="/")


def log_out(request: Request, response: Response) -> None:
    """Take the cookie back."""
    site = site_of(request)
    if site.token is not None:
        response.delete_cookie(_cookie(site.token)[0], httponly=True, samesite="strict", path="/")


def _cookie(token: str) -> tuple[str, str]:
    """Name and value, both from the token. Ports share cookies, so each site has a name of its own."""
    name = hmac.new(token.encode(), b"name of the cookie", "sha256").hexdigest()[:8]
    return f"selfreward_{name}", hmac.new(token.encode(), b"may control", "sha256").hexdigest()
