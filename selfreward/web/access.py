"""`serve --access-log`: a line for each request, as JSON like everything else that is logged."""

import time

import structlog
from starlette.types import ASGIApp, Message, Receive, Scope, Send


class AccessLog:
    """ASGI middleware that logs what was asked for, the status and the time to the first byte."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app
        self._log = structlog.get_logger()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """See ASGI."""
        begun = time.perf_counter()

        async def noted(message: Message) -> None:
            if message["type"] == "http.response.start":
                took = round(1000 * (time.perf_counter() - begun), 1)
                asked = {"method": scope["method"], "path": scope["path"]}
                self._log.info("request", **asked, status=message["status"], milliseconds=took)
            await send(message)

        await self._app(scope, receive, noted if scope["type"] == "http" else send)
