"""The store as the rest of the system sees it: one object, a handful of repositories."""

from pathlib import Path

from selfreward.store.anchors import Anchors
from selfreward.store.answers import Answers
from selfreward.store.candidates import Candidates
from selfreward.store.comparisons import Comparisons
from selfreward.store.consistency import Consistencies
from selfreward.store.database import Database
from selfreward.store.evaluations import Evaluations
from selfreward.store.examples import Examples
from selfreward.store.forks import Forks
from selfreward.store.gates import Gates
from selfreward.store.imported import Imported
from selfreward.store.journal import Journal
from selfreward.store.lease import Leases
from selfreward.store.meta import Meta
from selfreward.store.migrate import current_revision, require_head, upgrade
from selfreward.store.pairs import Pairs
from selfreward.store.pool import Pool
from selfreward.store.progress import Progress
from selfreward.store.prompts import Prompts
from selfreward.store.replies import Replies
from selfreward.store.runs import Runs


class Store:
    """The database of a run's directory. All methods block: call them from a thread in async code."""

    def __init__(self, url: str, directory: Path) -> None:
        self.database = Database(url, directory)
        self.runs = Runs(self.database)
        self.forks = Forks(self.database)
        self.prompts = Prompts(self.database)
        self.pool = Pool(self.database)
        self.candidates = Candidates(self.database)
        self.comparisons = Comparisons(self.database)
        self.anchors = Anchors(self.database)
        self.pairs = Pairs(self.database)
        self.consistency = Consistencies(self.database)
        self.meta = Meta(self.database)
        self.imported = Imported(self.database)
        self.replies = Replies(self.database)
        self.examples = Examples(self.database)
        self.answers = Answers(self.database)
        self.evaluations = Evaluations(self.database)
        self.gates = Gates(self.database)
        self.journal = Journal(self.database)
        self.progress = Progress(self.database)
        self.leases = Leases(self.database)

    @classmethod
    def open(cls, url: str, directory: Path) -> "Store":
        """The store, after making sure that the schema is the one this version knows.

        Raises StoreError, naming the command that helps, when it is not.
        """
        store = cls(url, directory)
        require_head(store.database)
        return store

    @classmethod
    def open_or_create(cls, url: str, directory: Path) -> "Store":
        """The store; a database that is not there yet is made. One at another revision is refused."""
        store = cls(url, directory)
        if current_revision(store.database) is None:
            upgrade(store.database)
        store.close()
        return cls.open(url, directory)

    def close(self) -> None:
        """Give all connections back."""
        self.database.close()
