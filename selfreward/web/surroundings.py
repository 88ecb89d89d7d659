"""What a monitor wants to know that is not in the rows: who is alive, files, disk."""

import shutil
import time
from pathlib import Path

from pydantic import ValidationError

from selfreward.config import Settings
from selfreward.places import root_of
from selfreward.progress import Meter, RunStatus, gather
from selfreward.store.snapshot import Snapshot
from selfreward.store.standing import Rows
from selfreward.training import manifest
from selfreward.web.site import Site

BACKUPS = "selfreward-*.db"
MOST_AT_WORK = 8


def daemons(rows: Snapshot, site: Site) -> Rows:
    """(run, whether a daemon is alive on it)."""
    timeout = site.settings.daemon.lease_timeout_s
    for key, run in rows.runs.items():
        yield run, int(site.store.leases.running(key, timeout))


def at_work(rows: Snapshot, site: Site, meters: dict[str, Meter]) -> list[RunStatus]:
    """How far the runs are whose daemons are alive, and the site's own; a meter for each is kept."""
    running = [run for run, alive in daemons(rows, site) if alive or run == site.settings.name]
    return [
        gather(site.store, _settings(rows, site, run), meters.setdefault(run, Meter()))
        for run in running[-MOST_AT_WORK:]
    ]


def _settings(rows: Snapshot, site: Site, run: str) -> Settings:
    """What a run is to make: the site's own settings, or those that a fork's iteration was begun with."""
    if run == site.settings.name:
        return site.settings
    body = rows.settings_of(run)
    try:
        return Settings.model_validate(body).model_copy(update={"name": run})
    except ValidationError:  # of another version
        return site.settings.model_copy(update={"name": run})


def checkpoint_bytes(rows: Snapshot, site: Site) -> Rows:
    """(run, bytes of the files of its own checkpoints)."""
    root, found = root_of(site.directory), dict.fromkeys(rows.runs.values(), 0)
    for run, path in rows.checkpoint_paths():
        found[run] += _size(root / path)
    yield from found.items()


def backups(site: Site) -> Rows:
    """How many copies of the database there are; nothing for PostgreSQL, which others back up."""
    if site.store.database.is_sqlite:
        yield (len(_backups(site)),)


def backup_age(site: Site) -> Rows:
    """Seconds since the newest was made."""
    newest = max((path.stat().st_mtime for path in _backups(site)), default=None)
    if newest is not None:
        yield (max(0.0, time.time() - newest),)


def disk_free(site: Site) -> Rows:
    """Bytes."""
    yield (shutil.disk_usage(site.directory).free,)


def disk_size(site: Site) -> Rows:
    """Bytes."""
    yield (shutil.disk_usage(site.directory).total,)


def _backups(site: Site) -> list[Path]:
    return list((root_of(site.directory) / "backups").glob(BACKUPS))


def _size(checkpoint: Path) -> int:
    """By its manifest, a file of some kilobytes; 0 where there is none."""
    found = manifest.read(checkpoint)
    return 0 if found is None else sum(file.size for file in found.files.values())
