"""One owner per run: who may take it, when, and what becomes of the one before."""

import re
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import pytest
from sqlalchemy import func, select, update

from selfreward.errors import Busy, LeaseLost
from selfreward.store import Store
from selfreward.store import lease as leases
from selfreward.store.lease import Owner, process_start, this_process
from selfreward.store.schema import Lease, Prompt
from tests.conftest import Filled

TIMEOUT_S = 60.0


@pytest.fixture
def other(filled: Filled, tmp_path: Path) -> Iterator[Store]:
    """The same database, opened by somebody else."""
    opened = Store(filled.store.database.url.render_as_string(hide_password=False), tmp_path)
    yield opened
    opened.close()


@pytest.fixture
def owned(filled: Filled) -> Filled:
    """A run that has an owner: this process."""
    filled.store.leases.take(filled.run.id, TIMEOUT_S)
    return filled


def set_lease(store: Store, **values: object) -> None:
    with store.database.write() as connection:
        connection.execute(update(Lease).values(**values))


def silent_for(seconds: float) -> dict[str, object]:
    """The sign of life of an owner whose last one is this old by every clock."""
    return {
        "heartbeat_monotonic": time.monotonic() - seconds,
        "heartbeat_at": leases.now() - timedelta(seconds=seconds),
    }


def kernel() -> str:
    return this_process().boot_id.partition("/")[0]


def is_free(filled: Filled, other: Store) -> bool:
    """Whether somebody else may take the run, who then has the next fence."""
    running = other.leases.running(filled.run.id, TIMEOUT_S)
    try:
        assert other.leases.take(filled.run.id, TIMEOUT_S) == 2
    except Busy:
        assert running
        return False
    assert not running
    return True


def test_a_second_owner_is_told_who_owns_it_and_what_to_do(owned: Filled, other: Store) -> None:
    with pytest.raises(Busy, match=re.escape(this_process().name)) as caught:
        other.leases.take(owned.run.id, TIMEOUT_S)
    assert "sign of life is 0 s old" in caught.value.message
    assert "selfreward stop" in caught.value.hint and "60 s" in caught.value.hint
    assert other.database.fence is None


def test_a_released_lease_can_be_taken(owned: Filled, other: Store) -> None:
    owned.store.leases.release()
    assert is_free(owned, other)
    found = other.leases.find(owned.run.id)
    assert found is not None and (found.fence, found.released) == (2, False)


def test_an_owner_that_is_gone_is_replaced_at_once(owned: Filled, other: Store) -> None:
    with subprocess.Popen([sys.executable, "-c", ""]) as process:
        pass
    set_lease(owned.store, pid=process.pid, pid_started=1)
    assert is_free(owned, other)


def test_a_process_that_got_the_dead_owners_number_is_not_taken_for_it(owned: Filled, other: Store) -> None:
    set_lease(owned.store, pid_started=1)
    assert is_free(owned, other)


def test_a_clock_jump_steals_no_lease(owned: Filled, other: Store) -> None:
    set_lease(owned.store, heartbeat_at=owned.run.created_at.replace(year=2001))
    assert not is_free(owned, other)


def test_a_clock_jump_keeps_no_lease(owned: Filled, other: Store) -> None:
    year_ahead = owned.run.created_at.replace(year=owned.run.created_at.year + 1, day=1)
    set_lease(owned.store, **{**silent_for(61), "heartbeat_at": year_ahead})
    assert is_free(owned, other)


def test_the_lease_names_the_kernel_and_the_process_namespace(owned: Filled) -> None:
    with owned.store.database.read() as connection:
        boot_id = connection.execute(select(Lease.boot_id)).scalar_one()
    kernel_id, namespace = boot_id.split("/")
    assert kernel_id == Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    assert Path("/proc/self/ns/pid").readlink() == Path(f"pid:[{namespace}]")


def test_a_row_of_an_earlier_version_names_no_namespace_and_still_counts(owned: Filled, other: Store) -> None:
    set_lease(owned.store, boot_id=kernel())
    assert not is_free(owned, other)
    set_lease(owned.store, pid_started=1)
    assert is_free(owned, other)


@pytest.mark.parametrize("host", [this_process().host, "another-container"])
@pytest.mark.parametrize(("silence_s", "free"), [(59.0, False), (61.0, True)])
def test_in_another_container_of_this_kernel_the_monotonic_clock_decides(
    owned: Filled, other: Store, host: str, silence_s: float, free: bool
) -> None:
    """Whatever the process table says: the number means another process here, or none."""
    jumped = {**silent_for(silence_s), "heartbeat_at": owned.run.created_at.replace(year=2001)}
    set_lease(owned.store, owner=f"{host}:1", boot_id=f"{kernel()}/1", pid=1, pid_started=1, **jumped)
    assert is_free(owned, other) is free


def test_another_boot_of_this_host_means_that_the_owner_is_gone_only_where_there_is_one_host(
    owned: Filled, other: Store
) -> None:
    set_lease(owned.store, boot_id="another boot/1", pid=1)
    assert is_free(owned, other) is owned.store.database.is_sqlite


@pytest.mark.parametrize(("silence_s", "free"), [(50.0, False), (70.0, True)])
def test_on_another_machine_the_time_of_the_database_decides(
    owned: Filled, other: Store, silence_s: float, free: bool
) -> None:
    """Monotonic clocks of two machines tell nothing about each other."""
    sign_of_life = {**silent_for(silence_s), "heartbeat_monotonic": time.monotonic() + 1e6}
    set_lease(owned.store, owner="elsewhere:1", boot_id="another boot/1", **sign_of_life)
    assert is_free(owned, other) is free


def test_a_wrong_clock_of_this_host_is_not_asked_on_postgresql(
    filled: Filled, other: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    if filled.store.database.is_sqlite:
        pytest.skip("there the host's clock is the only one")
    monkeypatch.setattr(leases, "now", lambda: filled.run.created_at.replace(year=2001))
    filled.store.leases.take(filled.run.id, TIMEOUT_S)
    filled.store.leases.heartbeat()
    with other.database.read() as connection:
        age = connection.execute(select(func.clock_timestamp() - Lease.heartbeat_at)).scalar_one()
    assert abs(age.total_seconds()) < 30
    set_lease(other, owner="elsewhere:1", boot_id="another boot/1")
    assert not is_free(filled, other)


def test_an_owner_that_stalled_writes_nothing_more(owned: Filled, other: Store) -> None:
    set_lease(owned.store, **silent_for(61))
    other.leases.take(owned.run.id, TIMEOUT_S)
    with pytest.raises(LeaseLost, match=re.escape(this_process().name)) as caught:
        owned.prompt("Written by the one that woke up.")
    assert "last seen" in caught.value.message and "fence 2; ours was 1" in caught.value.message
    with pytest.raises(LeaseLost):
        owned.store.leases.heartbeat()
    with pytest.raises(LeaseLost):
        owned.store.leases.release()
    with other.database.read() as connection:
        assert connection.execute(select(func.count()).select_from(Prompt)).scalar_one() == 0
    other.leases.heartbeat()
    found = other.leases.find(owned.run.id)
    assert found is not None and (found.fence, found.released) == (2, False)


def test_of_many_that_come_at_once_one_gets_the_run(filled: Filled, tmp_path: Path) -> None:
    url = filled.store.database.url.render_as_string(hide_password=False)
    stores = [Store(url, tmp_path) for _ in range(6)]
    line, outcomes = threading.Barrier(len(stores)), []

    def come(store: Store) -> None:
        line.wait()
        try:
            outcomes.append(store.leases.take(filled.run.id, TIMEOUT_S))
        except Busy:
            outcomes.append(None)

    threads = [threading.Thread(target=come, args=(store,)) for store in stores]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for store in stores:
        store.close()
    assert sorted(outcomes, key=str) == [1, None, None, None, None, None]


def test_a_run_without_a_daemon_has_no_lease(filled: Filled) -> None:
    assert filled.store.leases.find(filled.run.id) is None
    assert not filled.store.leases.running(filled.run.id, TIMEOUT_S)


def test_this_process_is_known_again() -> None:
    me = this_process()
    assert me == this_process() and process_start(me.pid) == me.pid_started
    assert me.name == f"{me.host}:{me.pid}" and isinstance(replace(me, pid=1), Owner)
