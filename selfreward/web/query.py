"""The SQL page: saved queries by GET, the reader's own by POST; read-only, and bounded in every way.

A query runs in a thread of its own, two at a time at most and no longer than ten seconds, so that a heavy
one does not stop the other pages; what comes later waits its turn for a while.
"""

import time
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from functools import partial
from urllib.parse import parse_qsl

import anyio
from anyio.to_thread import run_sync
from fastapi import APIRouter, Request, Response

from selfreward.cookbook import SavedQuery, Value, saved_queries, saved_query
from selfreward.errors import BadInput, SelfRewardError, StoreUnavailable
from selfreward.store.readonly import QueryResult, run_query
from selfreward.store.relations import described
from selfreward.web.rendering import render
from selfreward.web.results import FILES, cells_of, columns_of
from selfreward.web.site import Site, SiteNeeded

router = APIRouter()

SHOWN_ROWS, SHOWN_BYTES = 500, 4 * 2**20
TAKEN_ROWS, TAKEN_BYTES = 20_000, 16 * 2**20
"""Most of a download, in memory while it is made; `selfreward query` has no such limit."""
TIMEOUT_S = 10.0
AT_ONCE = 2
WAIT_S = 5.0
MOST_BYTES = 200_000
"""Of a form with SQL in it."""
MOST_FIELDS = 50
OWN = frozenset({"saved", "sql", "format"})
"""Fields that are no parameters of the query."""


@dataclass(frozen=True, kw_only=True)
class Asked:
    """What a form asks for."""

    sql: str = ""
    """The reader's own; empty for a saved query as it is."""
    saved: str = ""
    as_file: str = ""
    """csv or json; empty for a page."""
    given: Mapping[str, str] = field(default_factory=dict)
    """Parameters as they were typed."""


@dataclass(frozen=True, kw_only=True)
class Answer:
    """What came of it."""

    result: QueryResult
    seconds: float


@router.get("/query")
async def saved(request: Request, site: SiteNeeded) -> Response:
    """The page; with `saved` the answer of that query."""
    return await _respond(request, site, _asked(dict(request.query_params)))


@router.post("/query")
async def own(request: Request, site: SiteNeeded) -> Response:
    """The answer of the reader's own SQL. It reads, and a page of another site cannot post here."""
    return await _respond(request, site, _asked(await _form(request)))


async def _form(request: Request) -> dict[str, str]:
    """The fields of a form, as long as it is no longer than it may be."""
    body = bytearray()
    async for chunk in request.stream():
        body += chunk
        if len(body) > MOST_BYTES:
            raise BadInput(f"the form is longer than {MOST_BYTES:,} bytes", "Shorten the SQL.")
    try:
        return dict(parse_qsl(body.decode("ascii"), keep_blank_values=True, max_num_fields=MOST_FIELDS))
    except ValueError:
        raise BadInput("that is not a form of this page", "Open /query and send it from there.") from None


def _asked(fields: Mapping[str, str]) -> Asked:
    given = {name: value for name, value in fields.items() if name not in OWN and value != ""}
    return Asked(
        sql=fields.get("sql", "").strip().replace("\r\n", "\n"),
        saved=fields.get("saved", ""),
        as_file=fields.get("format", ""),
        given=given,
    )


async def _respond(request: Request, site: Site, asked: Asked) -> Response:
    try:
        async with _turn(request):
            work = partial(_answered, request, site, asked)
            return await run_sync(
                work, limiter=anyio.CapacityLimiter(1)
            )  # not one of the other pages' threads
    except TimeoutError:
        busy = StoreUnavailable(
            f"{AT_ONCE} queries are running here, and no more run at once",
            f"Each ends after {TIMEOUT_S:g} s at most: try again then.",
        )
        return await run_sync(partial(_page, request, site, asked, problem=busy))


@asynccontextmanager
async def _turn(request: Request) -> AsyncIterator[None]:
    """One of the places for queries. Raises TimeoutError when none becomes free."""
    state = request.app.state
    if not hasattr(state, "queries"):
        state.queries = anyio.Semaphore(AT_ONCE)
    with anyio.fail_after(WAIT_S):
        await state.queries.acquire()
    try:
        yield
    finally:
        state.queries.release()


def _answered(request: Request, site: Site, asked: Asked) -> Response:
    """The page or the file. What is wrong with the query is said on the page, beside it."""
    try:
        chosen = saved_query(asked.saved) if asked.saved else None
        answer = _run(site, asked, chosen)
    except SelfRewardError as problem:
        return _page(request, site, asked, problem=problem)
    if asked.as_file and answer is not None:
        return _file(answer.result, asked)
    return _page(request, site, asked, answer=answer)


def _run(site: Site, asked: Asked, chosen: SavedQuery | None) -> Answer | None:
    if asked.as_file not in ("", *FILES):
        raise BadInput(f"there is no format {asked.as_file[:20]!r}", f"Use one of: {', '.join(FILES)}.")
    if not asked.sql and chosen is None:
        return None
    if "\x00" in asked.sql:
        raise BadInput("the SQL holds a NUL character", "Take it out.")
    values: Mapping[str, Value] = chosen.values(asked.given) if chosen else {}
    sql = asked.sql or (chosen.statement(sqlite=site.store.database.is_sqlite) if chosen else "")
    begun = time.perf_counter()
    rows, size = (TAKEN_ROWS, TAKEN_BYTES) if asked.as_file else (SHOWN_ROWS, SHOWN_BYTES)
    result = run_query(
        site.store.database, sql, parameters=values, max_rows=rows, timeout_s=TIMEOUT_S, max_bytes=size
    )
    return Answer(result=result, seconds=time.perf_counter() - begun)


def _page(
    request: Request,
    site: Site,
    asked: Asked,
    answer: Answer | None = None,
    problem: SelfRewardError | None = None,
) -> Response:
    queries = {query.name: query for query in saved_queries()}
    chosen = queries.get(asked.saved)
    written = asked.sql or (chosen.statement(sqlite=site.store.database.is_sqlite) if chosen else "")
    busy = isinstance(problem, StoreUnavailable)
    return render(
        request,
        "query.html",
        503 if busy else 200 if problem is None else 400,
        asked=asked,
        queries=queries.values(),
        chosen=chosen,
        written=written,
        problem=problem,
        tables=described(site.store.database) if not busy else (),
        answer=answer,
        columns=columns_of(answer.result) if answer else (),
        rows=cells_of(answer.result) if answer else (),
        shown_rows=SHOWN_ROWS,
        taken_rows=TAKEN_ROWS,
        timeout=TIMEOUT_S,
    )


def _file(result: QueryResult, asked: Asked) -> Response:
    kind, write = FILES[asked.as_file]
    name = f"{asked.saved or 'query'}.{asked.as_file}"
    headers = {"Content-Disposition": f'attachment; filename="{name}"'}
    if result.truncated:
        headers["X-Selfreward-Truncated"] = f"only the first {TAKEN_ROWS} rows"
    return Response(write(result), media_type=kind, headers=headers)
