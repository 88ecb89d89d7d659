"""JSON over HTTP to one server, with another try where trying again may help."""

import json
import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import httpx
from tenacity import AsyncRetrying, retry_if_exception_type, stop_after_attempt, wait_random_exponential

from selfreward.engines.replies import error_message

# uvicorn closes idle connections after 5 s; reusing one at that moment would fail for nothing.
KEEPALIVE_S = 4.0
CONNECT_S = 10.0

# httpx logs a line for every request at INFO, which would bury whatever else the daemon says.
logging.getLogger("httpx").setLevel(logging.WARNING)

_JSON = {"content-type": "application/json"}


class Transient(Exception):
    """A failure that another try may not meet: connection, 5xx, 429. `status` is 0 without a reply."""

    def __init__(self, message: str, status: int = 0) -> None:
        super().__init__(message)
        self.status = status


class TimedOut(Exception):
    """No reply within the time one request may take."""


@dataclass(frozen=True, kw_only=True)
class Patience:
    """How long to wait and how often to try."""

    request_timeout_s: float
    tries: int
    longest_pause_s: float


class Transport:
    """Posts JSON. `refusal` makes the error for a reply 4xx, from its status and the server's words."""

    def __init__(
        self,
        url: str,
        patience: Patience,
        *,
        refusal: Callable[[int, str], Exception],
        limits: httpx.Limits,
        headers: Mapping[str, str] | None = None,
        trust_env: bool = False,
        transport: httpx.AsyncBaseTransport | None = None,
    ) -> None:
        self._patience, self._refusal = patience, refusal
        self._http = httpx.AsyncClient(
            base_url=url,
            verify=not url.startswith("http:"),  # where there is nothing to verify, reading roots takes 0.1 s
            timeout=httpx.Timeout(patience.request_timeout_s, connect=CONNECT_S, pool=None),
            limits=limits,
            headers=headers,
            trust_env=trust_env,
            transport=transport,
        )

    async def post(self, path: str, body: Mapping[str, Any]) -> Any:
        """The JSON of the reply. Raises Transient when the tries have run out, TimedOut at once."""
        content = json.dumps(body)  # ASCII: a lone surrogate in a prompt cannot break the encoding
        retrying = AsyncRetrying(
            retry=retry_if_exception_type(Transient),
            stop=stop_after_attempt(self._patience.tries),
            wait=wait_random_exponential(multiplier=0.1, max=self._patience.longest_pause_s),
            reraise=True,
        )
        return await retrying(self._try, path, content)

    async def get(self, path: str, timeout_s: float) -> httpx.Response:
        """One page, asked for once. Raises httpx.HTTPError."""
        return await self._http.get(path, timeout=timeout_s)

    async def close(self) -> None:
        """Drop the connections."""
        await self._http.aclose()

    async def _try(self, path: str, content: str) -> Any:
        try:
            response = await self._http.post(path, content=content, headers=_JSON)
        except httpx.ReadTimeout:
            raise TimedOut from None
        except httpx.TransportError as error:
            raise Transient(repr(error)) from error
        if response.is_success:
            return response.json()
        message = error_message(response)
        if response.status_code >= 500 or response.status_code == 429:
            raise Transient(message, response.status_code)
        raise self._refusal(response.status_code, message)
