"""A run's database, to look at for days: it may be locked, away, migrated or replaced meanwhile."""

from pathlib import Path
from types import TracebackType
from typing import Self

from sqlalchemy.exc import SQLAlchemyError

from selfreward.config import Settings
from selfreward.errors import SelfRewardError, StoreError, StoreUnavailable
from selfreward.progress import Meter, RunStatus, gather
from selfreward.store import Store
from selfreward.store.database import resolve_url
from selfreward.store.migrate import require_head

Identity = tuple[int, int]


class Watched:
    """Opens the database when it is there, and again when it is another one."""

    def __init__(self, directory: Path, settings: Settings, where: str = "") -> None:
        self._directory, self._settings, self._where = directory, settings, where
        self._url = resolve_url(settings.database.url, directory)
        self._store: Store | None = None
        self._opened: Identity | None = None
        self._meter = Meter()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._close()

    def look(self) -> RunStatus:
        """Where the run stands. Raises SelfRewardError when that cannot be told now; ask again later."""
        try:
            return gather(self._current(), self._settings, self._meter, where=self._where)
        except StoreUnavailable:
            raise
        except StoreError:
            self._close()
            raise
        except (SQLAlchemyError, ValueError, KeyError) as error:  # another version's tables, or its words
            self._close()
            told = str(error).partition("\n")[0]
            raise StoreError(f"the database cannot be read as this version expects: {told}") from error

    def _current(self) -> Store:
        """The store, opened anew when another file is in its place. Raises StoreError when none is."""
        now = self._identity()
        if self._store is not None and now == self._opened:
            return self._store
        self._close()
        store = Store(self._settings.database.url, self._directory)
        store.database.be_patient(0.0, lambda _: None)  # a screen that waits for a lock is not up to date
        try:
            require_head(store.database)
        except SelfRewardError:
            store.close()
            raise
        self._store, self._opened, self._meter = store, now, Meter()
        return store

    def _identity(self) -> Identity | None:
        """Which file it is: opening one that is not there would make it."""
        if self._url.get_backend_name() != "sqlite":
            return None
        path = Path(str(self._url.database))
        try:
            found = path.stat()
        except FileNotFoundError:
            self._close()
            raise StoreError(
                f"the database {path} is not there",
                f"It is made by the first start: selfreward start{self._where}",
            ) from None
        return found.st_dev, found.st_ino

    def _close(self) -> None:
        if self._store is not None:
            self._store.close()
        self._store = None
