"""One owner per run: the lease and its fencing number.

A lease row, and not an advisory lock: it tells who owns the run, works on SQLite and PostgreSQL alike,
and its fence lets every write of a former owner fail, which a lock that was lost cannot do.

Who may take it, without trusting the wall clock on one host: on the same boot of the same machine the
process table and the monotonic clock decide; after a reboot the owner is gone; only between machines
does the time of the last heartbeat count.
"""

import os
import socket
import time
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

from sqlalchemy import insert, select, update

from selfreward.errors import Busy
from selfreward.store.database import Database
from selfreward.store.rows import now
from selfreward.store.schema import Lease
from selfreward.types import LeaseRow


@dataclass(frozen=True, kw_only=True)
class Owner:
    """A process that can own a run: told apart from any other, on this boot or another."""

    host: str
    boot_id: str
    pid: int
    pid_started: int

    @property
    def name(self) -> str:
        """host:pid, for people."""
        return f"{self.host}:{self.pid}"


def this_process() -> Owner:
    """The process that asks."""
    return Owner(
        host=socket.gethostname(),
        boot_id=Path("/proc/sys/kernel/random/boot_id").read_text().strip(),
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

        Raises Busy, naming the owner, while another daemon is alive.
        """
        owner, moment = this_process(), now()
        with self._database.write() as connection:
            row = (
                connection.execute(select(Lease).where(Lease.run_id == run_id).with_for_update())
                .mappings()
                .one_or_none()
            )
            if row is not None and _alive(row, owner, timeout_s, moment):
                raise Busy(
                    f"this run is owned by {row['owner']}, last seen {row['heartbeat_at']:%H:%M:%S} UTC",
                    "Stop that daemon with `selfreward stop`, or watch it with `selfreward status --watch`.",
                )
            fence = 1 if row is None else int(row["fence"]) + 1
            values = {
                "owner": owner.name,
                "boot_id": owner.boot_id,
                "pid": owner.pid,
                "pid_started": owner.pid_started,
                "fence": fence,
                "heartbeat_at": moment,
                "heartbeat_monotonic": time.monotonic(),
                "released_at": None,
            }
            if row is None:
                connection.execute(insert(Lease).values(run_id=run_id, **values))
            else:
                connection.execute(update(Lease).where(Lease.run_id == run_id).values(**values))
        self._database.fence = (run_id, fence)
        return fence

    def heartbeat(self) -> None:
        """A sign of life. Raises LeaseLost when the run belongs to someone else by now."""
        self._update(heartbeat_at=now(), heartbeat_monotonic=time.monotonic())

    def release(self) -> None:
        """Give the run back."""
        self._update(released_at=now())
        self._database.fence = None

    def find(self, run_id: int) -> LeaseRow | None:
        """Who owns the run, or owned it last."""
        with self._database.read() as connection:
            row = connection.execute(select(Lease).where(Lease.run_id == run_id)).mappings().one_or_none()
        if row is None:
            return None
        return LeaseRow(
            run_id=run_id,
            owner=row["owner"],
            fence=row["fence"],
            heartbeat_at=row["heartbeat_at"],
            released=row["released_at"] is not None,
        )

    def running(self, run_id: int, timeout_s: float) -> bool:
        """Whether a daemon is alive on this run."""
        with self._database.read() as connection:
            row = connection.execute(select(Lease).where(Lease.run_id == run_id)).mappings().one_or_none()
        return row is not None and _alive(row, this_process(), timeout_s, now())

    def _update(self, **values: Any) -> None:
        fence = self._database.fence
        assert fence is not None, "no lease was taken"
        with self._database.write() as connection:
            connection.execute(update(Lease).where(Lease.run_id == fence[0]).values(**values))


def _alive(row: Any, asking: Owner, timeout_s: float, moment: datetime) -> bool:
    """Whether the lease's owner still has a right to the run."""
    host = str(row["owner"]).rpartition(":")[0]
    if row["released_at"] is not None:
        return False
    if host == asking.host:
        if row["boot_id"] != asking.boot_id or process_start(row["pid"]) != row["pid_started"]:
            return False
        return time.monotonic() - float(row["heartbeat_monotonic"]) < timeout_s
    silent: float = (moment - row["heartbeat_at"]).total_seconds()
    return silent < timeout_s
