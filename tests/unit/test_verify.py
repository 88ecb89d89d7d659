"""`selfreward verify` finds nothing wrong where nothing is, and what is wrong where something is."""

import json
import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import text

from selfreward.config import Settings, load_settings
from selfreward.store import Store
from selfreward.training.checkpoint import write_manifest
from selfreward.types import (
    CheckpointKind,
    PairDecision,
    PairOutcome,
    PreferencePair,
    StageName,
    Status,
)
from tests.commands import selfreward
from tests.conftest import Filled

SETTINGS = """
name = "main"
model = "org/name"
[database]
url = "{url}"
[self_instruct]
target = 2
max_attempts = 10
[sample]
candidates = 2
[judge]
samples = 2
"""


def make_checkpoint(path: Path, weights: str) -> str:
    path.mkdir(parents=True)
    (path / "model.safetensors").write_text(weights)
    (path / "config.json").write_text("{}")
    return write_manifest(path)


class Whole:
    """A run that has come from M_1 to M_2: two prompts, one of which gave a pair."""

    def __init__(self, store: Store, directory: Path) -> None:
        self.store, self.directory = store, directory
        url = store.database.url.render_as_string(hide_password=False)
        (directory / "selfreward.toml").write_text(SETTINGS.format(url=url))
        self.settings: Settings = load_settings(directory, environ={})
        self.filled = Filled(store, self.settings)
        digest = make_checkpoint(directory / "models" / "M_1", "first")
        self.sql(f"UPDATE checkpoint SET digest = '{digest}'")
        self._generate()
        self._train()

    def _generate(self) -> None:
        filled, runs = self.filled, self.store.runs
        prompts = [filled.prompt("Which is better?"), filled.prompt("Which is worse?", draw=2)]
        for prompt in prompts:
            filled.candidates(prompt, ["good", "bad"])
        for candidate, score in zip((1, 2, 3, 4), (5.0, 1.0, 3.0, 3.0), strict=True):
            filled.judgements(candidate, [score, score])
        runs.set_judge(filled.iteration.id, filled.judge)
        stage = filled.stage(StageName.PAIR)
        chosen = PreferencePair(prompt_id=1, chosen_id=1, rejected_id=2, chosen_score=5.0, rejected_score=1.0)
        decisions = [
            PairDecision(prompt_id=1, outcome=PairOutcome.PAIRED, pairs=(chosen,)),
            PairDecision(prompt_id=2, outcome=PairOutcome.TIE),
        ]
        self.store.pairs.decide(filled.iteration.id, filled.judge, stage.id, decisions, 2)
        for name in (StageName.SELF_INSTRUCT, StageName.SAMPLE, StageName.JUDGE, StageName.PAIR):
            runs.finish_stage(filled.stage(name).id, "done")

    def _train(self) -> None:
        self.filled.stage(StageName.TRAIN)
        digest = make_checkpoint(self.directory / "models" / "M_2", "second")
        kind, path = CheckpointKind.DPO, "models/M_2"
        self.store.runs.finish_iteration(self.filled.iteration, kind, path, digest)

    def sql(self, *statements: str) -> None:
        with self.store.database.write() as connection:
            for statement in statements:
                connection.execute(text(statement))

    def verify(self, *options: str) -> tuple[int, dict[str, dict[str, Any]]]:
        """The exit status, and the checks by name."""
        done = selfreward("verify", "--json", "--dir", str(self.directory), *options)
        told = json.loads(done.stdout)
        assert told["ok"] is (done.returncode == 0)
        return done.returncode, {check["name"]: check for check in told["checks"]}

    def problems(self, *options: str) -> dict[str, list[str]]:
        """What is wrong, by the name of the check."""
        status, checks = self.verify(*options)
        found = {name: check["problems"] for name, check in checks.items() if check["problems"]}
        assert status == (1 if found else 0)
        return found


@pytest.fixture
def whole(store: Store, tmp_path: Path) -> Whole:
    return Whole(store, tmp_path)


def test_nothing_is_wrong_with_a_run_as_it_should_be(whole: Whole) -> None:
    status, checks = whole.verify()
    assert status == 0, checks
    database = {"integrity", "references"} if whole.store.database.is_sqlite else {"constraints"}
    rows = {"schema", "settings", "iterations", "counts", "candidates", "pairs", "tallies"}
    assert checks.keys() == database | rows | {"checkpoints", "directories"}
    assert checks["candidates"]["looked_at"] == "4 candidates"
    assert checks["checkpoints"]["looked_at"] == "2 checkpoints, every byte"


def test_people_are_shown_a_table(whole: Whole) -> None:
    done = selfreward("verify", "--dir", str(whole.directory))
    assert done.returncode == 0 and "✗" not in done.stdout and done.stdout.count("✓") >= 10
    whole.sql("DELETE FROM judgement WHERE id = 8", *RECOUNT)
    done = selfreward("verify", "--dir", str(whole.directory))
    assert done.returncode == 1 and done.stdout.count("✗") == 1
    assert "1 candidates lack judgements, the first is 4" in " ".join(done.stdout.split())


# As tallies would be if what is not there had never been.
RECOUNT = (
    "UPDATE judgement_tally SET judgements = (SELECT count(*) FROM judgement WHERE score * 10 = tenth),"
    " score_sum = (SELECT coalesce(sum(score), 0) FROM judgement WHERE score * 10 = tenth),"
    " score_squares = (SELECT coalesce(sum(score * score), 0) FROM judgement WHERE score * 10 = tenth),"
    " tokens = (SELECT coalesce(sum(token_count), 0) FROM judgement WHERE score * 10 = tenth)",
)
WRONG = {
    "a judgement was not counted": (
        ["DELETE FROM judgement WHERE id = 8"],
        "tallies",
        "tenth 30: 4 are counted, and there are 3",
    ),
    "candidates were not counted": (
        ["DELETE FROM candidate_tally"],
        "tallies",
        "candidate_tally of iteration_id 1, status ok: 0 are counted, and there are 4",
    ),
    "scores were not added up": (
        ["UPDATE judgement_tally SET score_sum = 9 WHERE tenth = 50"],
        "tallies",
        "tenth 50: the sums are (9.0, 50.0, 6.0), and should be (10.0, 50.0, 6.0)",
    ),
    "a judgement is gone": (
        ["DELETE FROM judgement WHERE id = 8"],
        "counts",
        "1 candidates lack judgements, the first is 4, and judge is done",
    ),
    "a candidate is gone": (
        ["DELETE FROM judgement WHERE candidate_id = 3", "DELETE FROM candidate WHERE id = 3"],
        "counts",
        "1 prompts lack candidates, the first is 2, and sample is done",
    ),
    "a prompt is gone": (
        ["UPDATE prompt SET iteration_id = NULL, source = 'seed' WHERE id = 2"],
        "counts",
        "1 of 1 prompts are accepted, and 2 were wanted",
    ),
    "there are more prompts than wanted": (
        [
            "INSERT INTO prompt (run_id, iteration_id, source, draw, draw_index, text, text_hash, status,"
            " created_at) SELECT run_id, iteration_id, source, 9, 0, text, text_hash, status, created_at"
            " FROM prompt WHERE id = 1"
        ],
        "counts",
        "3 of 3 prompts are accepted, and 2 were wanted",
    ),
    "a decision is gone": (
        ["DELETE FROM pair_decision WHERE prompt_id = 2"],
        "counts",
        "1 prompts have no decision, the first is 2, and pair is done",
    ),
    "the decision of a pair is gone": (
        ["DELETE FROM pair_decision WHERE prompt_id = 1"],
        "pairs",
        "1 pairs have no decision that says so, the first is 1",
    ),
    "a pair is gone": (
        ["DELETE FROM preference_pair"],
        "counts",
        "1 decisions name a pair that is not there, the first is 1",
    ),
    "a pair mixes prompts": (
        ["UPDATE preference_pair SET rejected_id = 3"],
        "pairs",
        "1 pairs have a rejected candidate of another prompt, the first is 1",
    ),
    "a candidate answers a rejected prompt": (
        ["UPDATE prompt SET status = 'rejected' WHERE id = 2"],
        "candidates",
        "2 candidates answer a prompt that is not of their iteration, the first is 3",
    ),
    "settings were changed": (
        ["UPDATE setting SET body = '{}'"],
        "settings",
        "is not the hash of its settings",
    ),
    "the trained checkpoint has no row": (
        ["DELETE FROM checkpoint WHERE name = 'M_2'"],
        "iterations",
        "iteration 1 of run 'main' is done, and there is no M_2",
    ),
    "an iteration has no data": (
        ["UPDATE iteration SET data_iteration_id = NULL"],
        "iterations",
        "iteration 1 of run 'main' has no valid data_iteration_id",
    ),
    "an iteration works on another's checkpoint": (
        ["UPDATE iteration SET checkpoint_id = 2"],
        "iterations",
        "iteration 1 of run 'main' works on a checkpoint of version 2",
    ),
    "an iteration is done and a stage of it is not": (
        ["UPDATE stage SET status = 'running' WHERE name = 'pair'"],
        "iterations",
        "iteration 1 of run 'main' is done, and its stage pair is not",
    ),
    "something below the cursor is missing": (
        [
            "DELETE FROM judgement WHERE id = 2",
            "UPDATE stage SET status = 'running' WHERE name = 'judge'",
            "UPDATE iteration SET status = 'running'",
        ],
        "counts",
        "1 candidates lack judgements, the first is 1, and judge is past item 4",
    ),
}


@pytest.mark.parametrize("case", WRONG)
def test_what_is_wrong_is_told(whole: Whole, case: str) -> None:
    statements, check, told = WRONG[case]
    whole.sql(*statements)
    found = whole.problems("--no-sums")
    assert any(told in problem for problem in found.get(check, ())), found


def test_what_is_under_way_is_not_wrong(whole: Whole) -> None:
    whole.sql(
        "DELETE FROM preference_pair",
        "DELETE FROM pair_decision",
        "DELETE FROM judgement WHERE candidate_id > 2",
        "UPDATE stage SET status = 'running', cursor = 2 WHERE name = 'judge'",
        "DELETE FROM stage WHERE name IN ('pair', 'train')",
        "UPDATE iteration SET status = 'running'",
        "DELETE FROM checkpoint WHERE name = 'M_2'",
        *RECOUNT,
    )
    make_checkpoint(whole.directory / "models" / "M_3.tmp-7", "half")
    status, checks = whole.verify()
    assert status == 0, checks
    notes = " ".join(checks["directories"]["notes"])
    assert "models/M_2: no row names it" in notes and "models/M_3.tmp-7: a training" in notes


def test_settings_that_were_changed_and_accepted_are_no_mistake(whole: Whole) -> None:
    """What was made before the change was made under the settings of then."""
    changed = whole.settings.model_copy(update={"sample": whole.settings.sample.model_copy(
        update={"candidates": 5})})  # fmt: skip
    before = whole.settings.digest()
    whole.store.journal.event(1, "iteration", "begun", 1, settings=before)
    whole.store.runs.open_iteration(1, 1, 1, changed)
    whole.store.runs.mark_iteration(1, Status.DONE)
    assert whole.problems() == {}


def test_a_fork_uses_data_of_its_parent_and_of_nobody_else(whole: Whole) -> None:
    runs = whole.store.runs
    forked, stranger = runs.ensure("forked"), runs.ensure("stranger")
    iteration = runs.open_iteration(forked.id, 1, 1, whole.settings)
    stage = runs.begin_stage(iteration.id, StageName.SAMPLE)
    runs.finish_stage(stage.id, "reused")
    fork = f"UPDATE run SET parent_run_id = 1, parent_iteration = 1 WHERE id = {forked.id}"
    whole.sql(fork, f"UPDATE iteration SET data_iteration_id = 1 WHERE id = {iteration.id}")
    assert whole.problems() == {}
    whole.sql(f"UPDATE run SET parent_run_id = {stranger.id} WHERE id = {forked.id}")
    assert "run 'forked' has no valid data_iteration_id" in whole.problems()["iterations"][0]


# --- the files --------------------------------------------------------------------------------------


def weights(whole: Whole) -> Path:
    return whole.directory / "models" / "M_2" / "model.safetensors"


def test_a_changed_byte_is_found_by_its_sum(whole: Whole) -> None:
    weights(whole).write_text("secofd")
    assert whole.problems("--no-sums") == {}
    told = ["M_2 at models/M_2: model.safetensors has other content than was written"]
    assert whole.problems() == {"checkpoints": told}


def test_a_file_of_another_size_is_found_at_once(whole: Whole) -> None:
    weights(whole).write_text("short")
    assert "5 bytes instead of 6" in whole.problems("--no-sums")["checkpoints"][0]


def test_a_checkpoint_that_is_another_one_is_found(whole: Whole) -> None:
    whole.sql("UPDATE checkpoint SET digest = 'aaaa' WHERE name = 'M_2'")
    assert "and aaaa was recorded" in whole.problems("--no-sums")["checkpoints"][0]


def test_a_checkpoint_that_is_gone_is_missed_unless_it_was_removed(whole: Whole) -> None:
    (whole.directory / "models" / "M_2").rename(whole.directory / "models" / "M_2.damaged-1")
    assert whole.problems()["checkpoints"] == ["M_2 at models/M_2: it is not there"]
    whole.sql("UPDATE checkpoint SET removed_at = '2025-01-01 00:00:00+00' WHERE name = 'M_2'")
    status, checks = whole.verify()
    assert status == 0
    assert checks["checkpoints"]["looked_at"].endswith("1 removed by retention or lost")
    assert "set aside because it was damaged" in checks["directories"]["notes"][0]


def test_files_of_runs_that_live_elsewhere_are_not_looked_for(whole: Whole) -> None:
    other = whole.store.runs.ensure("elsewhere")
    whole.store.runs.add_checkpoint(other.id, 1, CheckpointKind.BASE, "models/other", "d")
    assert whole.problems() == {}


# --- the database -----------------------------------------------------------------------------------


def test_a_database_at_another_revision_names_the_command(whole: Whole) -> None:
    whole.sql("UPDATE alembic_version SET version_num = '0000'")
    assert "selfreward db upgrade" in whole.problems()["schema"][0]


def test_a_broken_reference_is_found(whole: Whole) -> None:
    database = whole.store.database
    if database.is_sqlite:
        with closing(sqlite3.connect(str(database.url.database))) as careless, careless:
            careless.execute("UPDATE judgement SET judge_id = 99 WHERE id = 1")
        assert whole.problems()["references"] == [
            "row 1 of judgement refers to a row of judge that is not there"
        ]
    else:
        whole.sql("ALTER TABLE judgement ADD CONSTRAINT mine CHECK (score > 9) NOT VALID")
        assert whole.problems() == {"constraints": ["judgement: mine was never checked"]}


def test_a_damaged_file_is_a_finding_and_no_traceback(whole: Whole) -> None:
    if not whole.store.database.is_sqlite:
        pytest.skip("PostgreSQL looks after its own files")
    whole.store.close()
    path = Path(str(whole.store.database.url.database))
    content = bytearray(path.read_bytes())
    content[40 * 4096 : -4096] = bytes(len(content[40 * 4096 : -4096]))
    path.write_bytes(content)
    done = selfreward("verify", "--dir", str(whole.directory))
    assert done.returncode == 1 and "Traceback" not in done.stderr
    assert "✗" in done.stdout or "error" in done.stderr


# --- pin, unpin, backup through the door that users take -------------------------------------------


def test_a_checkpoint_is_pinned_by_name(whole: Whole) -> None:
    place = ("--dir", str(whole.directory))
    assert selfreward("pin", "M_2", *place).returncode == 0
    assert [row.pinned for row in whole.store.runs.checkpoints(1)] == [False, True]
    assert selfreward("unpin", "M_2", *place).returncode == 0
    assert not any(row.pinned for row in whole.store.runs.checkpoints(1))
    unknown = selfreward("pin", "M_9", *place)
    assert unknown.returncode == 2 and "There are: M_1, M_2." in unknown.stderr
    whole.sql("UPDATE checkpoint SET removed_at = '2025-01-01 00:00:00+00' WHERE name = 'M_2'")
    gone = selfreward("pin", "M_2", *place)
    assert gone.returncode == 2 and "retention has removed them" in gone.stderr


def test_a_backup_is_made_or_its_command_named(whole: Whole, tmp_path: Path) -> None:
    target = tmp_path / "copies" / "monday.db"
    done = selfreward("backup", str(target), "--dir", str(whole.directory))
    if not whole.store.database.is_sqlite:
        assert done.returncode == 2 and f"pg_dump --format=custom --file={target}" in done.stderr
        assert "+psycopg" not in done.stderr
        return
    assert done.returncode == 0 and f"backed up into {target}" in done.stdout
    (whole.directory / "selfreward.db").unlink()
    target.rename(whole.directory / "selfreward.db")
    whole.store.close()
    assert whole.problems() == {}
    again = selfreward("backup", str(target), "--dir", str(whole.directory))
    assert again.returncode == 0
    assert selfreward("backup", str(target), "--dir", str(whole.directory)).returncode == 2
    assert selfreward("backup", str(target), "--force", "--dir", str(whole.directory)).returncode == 0


@pytest.mark.parametrize("command", ["backup", "verify", "pin", "unpin"])
def test_every_command_explains_itself(command: str) -> None:
    done = selfreward(command, "--help")
    assert done.returncode == 0 and len(done.stdout.splitlines()) > 5
