"""Shared fixtures: a store in a temporary directory, on SQLite and on a real PostgreSQL."""

import shutil
import uuid
from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest

from selfreward.config import Settings
from selfreward.store import Store
from selfreward.store.migrate import upgrade
from selfreward.types import (
    CandidateStatus,
    CheckpointKind,
    IterationRow,
    JudgementStatus,
    NewCandidate,
    NewJudgement,
    PromptStatus,
    RunRow,
    StageName,
    StageRow,
    WrittenPrompt,
)
from tests.filled import make_filled
from tests.postgres import server_of_its_own


@pytest.fixture(scope="session")
def postgres_uri() -> Iterator[str]:
    """A PostgreSQL server of our own, from a package that carries its binaries.

    Not below pytest's own directory: that is closed to other users, and the server, which refuses to
    run as root, is one.
    """
    with server_of_its_own() as server:
        with psycopg.connect(server.uri, autocommit=True) as connection:
            connection.execute("ALTER SYSTEM SET fsync = off")  # these rows need not survive a power cut
            connection.execute("SELECT pg_reload_conf()")
        yield server.uri
        server.kill()


@pytest.fixture(scope="session")
def sqlite_template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A migrated SQLite database to copy: migrating anew for every test would take most of its time."""
    path = tmp_path_factory.mktemp("template") / "selfreward.db"
    _migrate(f"sqlite:///{path}")
    return path


@pytest.fixture(scope="session")
def postgres_template(postgres_uri: str) -> str:
    """The name of a migrated PostgreSQL database to copy."""
    name = "template_migrated"
    with psycopg.connect(postgres_uri, autocommit=True) as connection:
        connection.execute(f"CREATE DATABASE {name}")
    _migrate(_in(postgres_uri, name))
    return name


@pytest.fixture(params=["sqlite", "postgresql"])
def empty_url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """The URL of an empty database of each kind."""
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path / 'selfreward.db'}"
    return new_database(request.getfixturevalue("postgres_uri"), "template1")


@pytest.fixture(params=["sqlite", "postgresql"])
def database_url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """The URL of a database of each kind at the head revision."""
    if request.param == "sqlite":
        shutil.copy(request.getfixturevalue("sqlite_template"), tmp_path / "selfreward.db")
        return f"sqlite:///{tmp_path / 'selfreward.db'}"
    template = request.getfixturevalue("postgres_template")
    return new_database(request.getfixturevalue("postgres_uri"), template)


@pytest.fixture
def store(database_url: str, tmp_path: Path) -> Iterator[Store]:
    """A store at the head revision, on each database."""
    opened = Store(database_url, tmp_path)
    yield opened
    opened.close()


def _migrate(url: str) -> None:
    fresh = Store(url, Path())
    upgrade(fresh.database)
    fresh.close()


def new_database(uri: str, template: str) -> str:
    """The URL of a new database, a copy of another."""
    name = f"test_{uuid.uuid4().hex}"
    with psycopg.connect(uri, autocommit=True) as connection:
        connection.execute(f"CREATE DATABASE {name} TEMPLATE {template} STRATEGY file_copy")
    return _in(uri, name)


def _in(uri: str, database: str) -> str:
    return uri.replace("/postgres?", f"/{database}?")


class Filled:
    """A run with one iteration, and short ways to put rows into it."""

    def __init__(self, store: Store, settings: Settings | None = None) -> None:
        self.store = store
        self.settings = settings or Settings()
        self.run: RunRow = store.runs.ensure("main")
        checkpoint = store.runs.add_checkpoint(self.run.id, 1, CheckpointKind.BASE, "models/M_1", "digest-1")
        self.checkpoint = checkpoint
        self.iteration: IterationRow = store.runs.open_iteration(self.run.id, 1, checkpoint.id, self.settings)
        self.judge: int = store.candidates.judge(
            checkpoint.id, "rubric", "t.jinja", "0" * 64, {"guided": False}
        )
        store.runs.set_judge(self.iteration.id, self.judge)

    def stage(self, name: StageName) -> StageRow:
        """Begin a stage."""
        return self.store.runs.begin_stage(self.iteration.id, name)

    def prompt(self, text: str, draw: int = 1, index: int = 0, accepted: bool = True) -> int:
        """A prompt the model wrote."""
        written = WrittenPrompt(
            draw=draw,
            draw_index=index,
            text=text,
            status=PromptStatus.ACCEPTED if accepted else PromptStatus.REJECTED,
            reject_reason=None,
            nearest_prompt_id=None,
            nearest_rouge_l=None,
            demonstration_ids=(),
        )
        stage = self.stage(StageName.SELF_INSTRUCT)
        return self.store.prompts.add_written(self.run.id, self.iteration.id, stage.id, written)

    def candidates(self, prompt_id: int, texts: list[str], first: int = 0) -> None:
        """Answers to a prompt."""
        rows = [
            NewCandidate(
                prompt_id=prompt_id,
                index=first + place,
                text=text,
                status=CandidateStatus.OK,
                finish_reason="stop",
                token_count=len(text.split()),
                mean_logprob=-0.5,
            )
            for place, text in enumerate(texts)
        ]
        stage = self.stage(StageName.SAMPLE)
        self.store.candidates.add(self.iteration.id, stage.id, None, rows, prompt_id)

    def judgements(self, candidate_id: int, scores: list[float | None]) -> None:
        """Judgements of a candidate; None is an unreadable one."""
        rows = [
            NewJudgement(
                candidate_id=candidate_id,
                sample=sample,
                raw_text=f"Score: {score}",
                status=JudgementStatus.UNREADABLE if score is None else JudgementStatus.READ,
                score=score,
                token_count=3,
                finish_reason="stop",
            )
            for sample, score in enumerate(scores)
        ]
        stage = self.stage(StageName.JUDGE)
        self.store.candidates.add_judgements(self.judge, stage.id, None, rows, candidate_id)


@pytest.fixture
def filled(store: Store) -> Filled:
    """A store with a run and an iteration in it."""
    return Filled(store)


@pytest.fixture(scope="session")
def done_run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The directory of a run that is done, to read. Tests that change it copy it."""
    return make_filled(tmp_path_factory.mktemp("filled"))
