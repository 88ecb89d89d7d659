"""Serving the pages with uvicorn: who may ask, the socket, the address on one line, a clean end."""

import signal
import socket
import sys
import threading
from collections.abc import Sequence
from pathlib import Path

import uvicorn

from selfreward.config import Settings
from selfreward.errors import BadInput, SelfRewardError
from selfreward.reporting import configure_logging
from selfreward.store import Store
from selfreward.store.migrate import require_head
from selfreward.web.access import AccessLog
from selfreward.web.app import create_app
from selfreward.web.charting import Source, charts
from selfreward.web.kept import Kept
from selfreward.web.site import LOOPBACK, Site

EVERYWHERE = frozenset({"0.0.0.0", "::"})
SHORTEST_TOKEN = 8
LAST_SECONDS = 3
"""What is being answered has so long to end."""


def site(
    store: Store, settings: Settings, directory: Path, host: str, names: Sequence[str], token: str | None
) -> Site:
    """The site as the command line has it. Raises BadInput for an open address or a weak token."""
    if host in EVERYWHERE and not names:
        raise BadInput(
            f"--host {host} opens the pages to every network of this machine",
            "Say by which names it may be asked: --allow-host NAME. Whoever reaches it reads everything.",
        )
    if token is not None and len(token) < SHORTEST_TOKEN:
        raise BadInput(
            f"the token has {len(token)} characters, at least {SHORTEST_TOKEN} are needed",
            "Make one: openssl rand -hex 16",
        )
    named = {name.strip().lower().rstrip(".") for name in names}
    own = set() if host in EVERYWHERE else {host.lower()}
    return Site(
        store=store,
        settings=settings,
        directory=directory.resolve(),
        host_names=LOOPBACK | named | own,
        token=token,
    )


def serve(site: Site, host: str, port: int, access_log: bool = False) -> None:
    """Answer until SIGTERM or Ctrl-C. Raises BadInput when the address cannot be had."""
    configure_logging()
    listening = _listen(host, port)
    app = create_app(site)
    config = uvicorn.Config(
        AccessLog(app) if access_log else app,
        log_config=None,
        access_log=False,
        server_header=False,
        lifespan="off",
        timeout_graceful_shutdown=LAST_SECONDS,
    )
    server = uvicorn.Server(config)
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, server.handle_exit)  # from now on; uvicorn raises once more what it has caught
    if host not in LOOPBACK:
        print(f"warning: whoever reaches {host} can read everything in this database", file=sys.stderr)
    shown = f"[{host}]" if ":" in host else host
    print(f"http://{shown}:{listening.getsockname()[1]}/", flush=True)
    threading.Thread(target=_read_ahead, args=(site, app.state.kept), daemon=True).start()
    server.run(sockets=[listening])


def _read_ahead(site: Site, kept: Kept) -> None:
    """What a long run's plots need takes a second or two to read: it is there when somebody comes to look."""
    try:
        require_head(site.store.database)
        run = site.store.runs.find(site.settings.name)
        if run is not None:
            charts(Source(store=site.store, figures=kept.figures, run=run))
    except SelfRewardError:
        return  # whoever looks is told


def _listen(host: str, port: int) -> socket.socket:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    listening = socket.socket(family, socket.SOCK_STREAM)
    listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listening.bind((host, port))
        listening.listen(128)
    except OSError as error:
        listening.close()
        raise BadInput(
            f"cannot listen on {host}:{port}: {error.strerror or error}",
            "Take a free port: selfreward serve --port 0",
        ) from None
    return listening
