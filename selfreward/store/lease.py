"""One owner per run: the lease and its fencing number.

A lease row, and not an advisory lock: it tells who owns the run, works on SQLite and PostgreSQL alike,
and its fence lets every write of a former owner fail, which a lock that was lost cannot do.

Who may take it, without trusting any host's wall clock where something better is to be had:

- in the owner's process namespace the process table tells a dead owner, whose lease is taken at once;
- on the owner's kernel, from any container, its monotonic clock tells how long it has been silent;
- elsewhere PostgreSQL's clock does, which wrote the heartbeat too: two machines may bear the same name;
- SQLite lives on one host, so another boot of the host of that name means that the owner is gone.
"""

import os
import socket
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sqlalchemy import ColumnElement, Connection, func, literal, select, update

from selfreward.crash import crash_point
from selfreward.errors import Busy
from selfreward.store.database import Database
from selfreward.store.rows import AnyRow, insert_new, now
from selfreward.store.schema import Lease, UtcDateTime
from selfreward.types import LeaseRow


@dataclass(frozen=True, kw_only=True)
class Owner:
    """A process that can own a run: told apart from any other, in this container, on this boot or others."""

    host: str
    boot_id: str
    """The kernel's boot id, "/", and the inode of the process namespace."""
    pid: int
    pid_started: int

    @property
    def name(self) -> str:
        """host:pid, for people."""
        return f"{self.host}:{self.pid}"


def this_process() -> Owner:
    """The process that asks."""
    kernel = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    return Owner(
        host=socket.gethostname(),
        boot_id=f"{kernel}/{Path('/proc/self/ns/pid').stat().st_ino}",
        pid=os.getpid(),
        pid_started=process_start(os.getpid()) or 0,
    )


def process_start(pid: int) -> int | None:
    """Kernel ticks after boot at which a living process started; None when there is none."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return None
    return None if fields[0] in "ZX" else int(fields[19])


class Leases:
    """Queries about the lease."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def take(self, run_id: int, timeout_s: float) -> int:
        """Take the run and return the fence; every later write of this store carries it.

        Raises Busy, naming the owner, while another daemon is alive: one that showed a sign of life less
        than `timeout_s` seconds ago and is not known to be dead.
        """
        owner = this_process()
        with self._database.write() as connection:
            self._make_row(connection, run_id, owner)
            row = connection.execute(self._row(run_id).with_for_update()).one()
            if self._alive(row, owner, timeout_s):
                raise _busy(row, _silence_s(row, owner), timeout_s)
            fence = int(row.fence) + 1
            taken = update(Lease).where(Lease.run_id == run_id).values(fence=fence, released_at=None)
            connection.execute(taken.values(**_identity(owner), **self._sign_of_life()))
        self._database.fence = (run_id, fence)
        crash_point("lease:taken")
        return fence

    def heartbeat(self) -> None:
        """A sign of life. Raises LeaseLost when the run belongs to someone else by now."""
        self._update(**self._sign_of_life())
        crash_point("lease:beat")

    def release(self) -> None:
        """Give the run back."""
        self._update(released_at=self._clock())
        self._database.fence = None

    def find(self, run_id: int) -> LeaseRow | None:
        """Who owns the run, or owned it last."""
        with self._database.read() as connection:
            row = connection.execute(self._row(run_id)).one_or_none()
        if row is None:
            return None
        return LeaseRow(
            run_id=run_id,
            owner=row.owner,
            fence=row.fence,
            heartbeat_at=row.heartbeat_at,
            released=row.released_at is not None,
        )

    def running(self, run_id: int, timeout_s: float) -> bool:
        """Whether a daemon is alive on this run."""
        with self._database.read() as connection:
            row = connection.execute(self._row(run_id)).one_or_none()
        return row is not None and self._alive(row, this_process(), timeout_s)

    def _alive(self, row: AnyRow, asking: Owner, timeout_s: float) -> bool:
        """Whether the lease's owner still has a right to the run."""
        if row.released_at is not None or self._is_dead(row, asking):
            return False
        return _silence_s(row, asking) < timeout_s

    def _is_dead(self, row: AnyRow, asking: Owner) -> bool:
        """Whether it is known that the owner's process is gone."""
        if not _same_kernel(row, asking):
            return self._database.is_sqlite and _host(row.owner) == asking.host
        return _same_processes(row, asking) and process_start(row.pid) != row.pid_started

    def _make_row(self, connection: Connection, run_id: int, owner: Owner) -> None:
        """A lease that nobody holds, where there is none: two daemons that start at once meet at this row."""
        free = {"run_id": run_id, "fence": 0, "heartbeat_at": now(), "released_at": now()}
        insert_new(connection, Lease, [{**free, **_identity(owner), "heartbeat_monotonic": time.monotonic()}])

    def _row(self, run_id: int) -> Any:
        """The lease with the database's time."""
        return select(*Lease.__table__.columns, self._clock().label("moment")).where(Lease.run_id == run_id)

    def _sign_of_life(self) -> dict[str, Any]:
        return {"heartbeat_at": self._clock(), "heartbeat_monotonic": time.monotonic()}

    def _clock(self) -> ColumnElement[Any]:
        """The time by the one clock that all who share the database can read."""
        if self._database.is_sqlite:
            return literal(now(), UtcDateTime())
        return func.clock_timestamp(type_=UtcDateTime())

    def _update(self, **values: Any) -> None:
        fence = self._database.fence
        assert fence is not None, "no lease was taken"
        with self._database.write() as connection:
            connection.execute(update(Lease).where(Lease.run_id == fence[0]).values(**values))


def _identity(owner: Owner) -> dict[str, Any]:
    return {
        "owner": owner.name,
        "boot_id": owner.boot_id,
        "pid": owner.pid,
        "pid_started": owner.pid_started,
    }


def _host(owner: str) -> str:
    return owner.rpartition(":")[0]


def _same_kernel(row: AnyRow, asking: Owner) -> bool:
    """Monotonic clocks can be compared, whatever containers or names the two have."""
    return bool(row.boot_id.partition("/")[0] == asking.boot_id.partition("/")[0])


def _same_processes(row: AnyRow, asking: Owner) -> bool:
    """Process ids mean the same. Rows of earlier versions name no namespace: then the host's name decides."""
    namespace = row.boot_id.partition("/")[2]
    mine = asking.boot_id.partition("/")[2]
    return bool(namespace == mine if namespace else _host(row.owner) == asking.host)


def _silence_s(row: AnyRow, asking: Owner) -> float:
    """Seconds since the owner's last sign of life."""
    if _same_kernel(row, asking):
        return time.monotonic() - float(row.heartbeat_monotonic)
    silence: float = (row.moment - row.heartbeat_at).total_seconds()
    return silence


def _busy(row: AnyRow, silence_s: float, timeout_s: float) -> Busy:
    return Busy(
        f"this run is owned by {row.owner}, whose last sign of life is {max(0.0, silence_s):.0f} s old",
        "Watch it with `selfreward status --watch`, or end it with `selfreward stop`. If it hangs, kill that "
        f"process; {timeout_s:g} s after its last sign of life it can be replaced in any case.",
    )
