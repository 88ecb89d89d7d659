"""/metrics, /healthz and /readyz: every figure is what SQL says, on both databases."""

import json
import shutil
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from fastapi import FastAPI
from fastapi.testclient import TestClient
from prometheus_client.metrics_core import Metric
from prometheus_client.parser import text_string_to_metric_families
from sqlalchemy import event

from selfreward.config import Settings, load_settings
from selfreward.store import Store
from selfreward.types import (
    EvaluationRow,
    Gate,
    GateResult,
    GateState,
    MetricPoint,
    PairDecision,
    PairOutcome,
    StageName,
    Suite,
)
from selfreward.types import Metric as Figure
from selfreward.web import health, metrics
from selfreward.web.app import create_app
from selfreward.web.measures import MEASURES, as_markdown
from selfreward.web.site import LOOPBACK, Site
from tests.conftest import Filled

DOCS = Path(__file__).parents[2] / "docs" / "operations.md"


def client_of(store: Store, directory: Path, settings: Settings | None = None) -> TestClient:
    """The two routers in an application of their own."""
    app = FastAPI()
    app.state.site = Site(store=store, settings=settings or Settings(), directory=directory)
    app.include_router(metrics.router)
    app.include_router(health.router)
    return TestClient(app, base_url="http://localhost")


def scraped(client: TestClient) -> dict[str, Metric]:
    answer = client.get("/metrics")
    assert answer.status_code == 200 and answer.headers["content-type"].startswith("text/plain")
    return {family.name: family for family in text_string_to_metric_families(answer.text)}


def values(families: dict[str, Metric], name: str, **labels: str) -> dict[tuple[str, ...], float]:
    """The other labels' values, in the measure's order → sample, of samples that have these labels."""
    [order] = [measure.labels for measure in MEASURES if measure.name in (name, f"{name}_total")]
    return {
        tuple(sample.labels[label] for label in order if label not in labels): sample.value
        for sample in families[name].samples
        if labels.items() <= sample.labels.items()
    }


@pytest.fixture(scope="module")
def finished(done_run: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Store, Path]]:
    """A copy of the finished run."""
    directory = tmp_path_factory.mktemp("metrics") / "main"
    shutil.copytree(done_run, directory)
    store = Store.open("sqlite:///selfreward.db", directory)
    yield store, directory
    store.close()


def test_counters_of_a_finished_run_are_what_sql_counts(finished: tuple[Store, Path]) -> None:
    store, directory = finished
    families = scraped(client_of(store, directory, load_settings(directory)))
    with closing(sqlite3.connect(directory / "selfreward.db")) as connection:

        def counted(sql: str) -> dict[tuple[str, ...], float]:
            rows = connection.execute(sql).fetchall()
            return {tuple(str(value) for value in labels): count for *labels, count in rows}

        of_run = "join iteration on iteration.id = x.iteration_id join run on run.id = iteration.run_id"
        assert values(families, "selfreward_candidates") == counted(
            f"select run.name, x.status, count(*) from candidate x {of_run} group by 1, 2"
        )
        assert values(families, "selfreward_prompts") == counted(
            f"select run.name, x.status, coalesce(reject_reason, ''), count(*) from prompt x {of_run} "
            "group by 1, 2, 3"
        )
        assert values(families, "selfreward_pair_decisions") == counted(
            f"select run.name, x.outcome, count(*) from pair_decision x {of_run} group by 1, 2"
        )
        assert values(families, "selfreward_judgements") == counted(
            "select run.name, judgement.status, count(*) from judgement "
            "join candidate x on x.id = candidate_id "
            f"{of_run} group by 1, 2"
        )
        assert values(families, "selfreward_generated_tokens", stage="sample") == counted(
            f"select run.name, sum(token_count) from candidate x {of_run} group by 1"
        )
        sessions = counted(f"select run.name, count(*) from engine_session x {of_run} group by 1")
        assert {key: n for key, n in values(families, "selfreward_engine_sessions").items() if n} == sessions
    assert values(families, "selfreward_iteration") == {("main",): 2, ("beta05",): 1}
    assert values(families, "selfreward_run_info", run="beta05") == {("main", "1"): 1}
    assert values(families, "selfreward_daemon_up") == {("main",): 0, ("beta05",): 0}
    assert values(families, "selfreward_lease_released") == {("main",): 1, ("beta05",): 1}


def test_gauges_of_a_finished_run_are_there(finished: tuple[Store, Path]) -> None:
    store, directory = finished
    families = scraped(client_of(store, directory, load_settings(directory)))
    assert values(families, "selfreward_iteration_status", run="main", status="done") == {(): 1}
    assert values(families, "selfreward_stage_status", run="main", stage="judge", status="done") == {(): 1}
    assert values(families, "selfreward_stage_items_missing", run="main", stage="sample") == {(): 0}
    assert values(families, "selfreward_stage_items", run="main", stage="sample") == {(): 48}
    assert values(families, "selfreward_training_step", run="main")[("train",)] >= 1
    assert values(families, "selfreward_training_loss", run="main")[("train",)] > 0
    evaluated = values(families, "selfreward_evaluation", run="main", suite="judge")
    assert {checkpoint for checkpoint, _ in evaluated} == {"M_3"}
    assert 0 <= values(families, "selfreward_judgement_score_mean", run="main")[()] <= 5
    sizes = values(families, "selfreward_checkpoint_bytes")
    kept = sum(file.stat().st_size for file in (directory / "models").rglob("*.safetensors"))
    assert sizes[("main",)] >= kept > sizes[("beta05",)] > 0
    pages = values(families, "selfreward_database_bytes")[()]
    assert pages == (directory / "selfreward.db").stat().st_size
    assert values(families, "selfreward_disk_free_bytes")[()] > 0
    assert (
        "selfreward_backup_age_seconds" not in families
        or not families["selfreward_backup_age_seconds"].samples
    )


def test_a_run_at_work_is_told_on_both_databases(filled: Filled, tmp_path: Path) -> None:
    store = filled.store
    prompts = [filled.prompt(f"prompt {n}", draw=n, accepted=n != 2) for n in range(4)]
    for prompt in prompts[:2]:
        filled.candidates(prompt, ["a b", "c"])
    filled.judgements(1, [4.0, 2.0, None])
    store.leases.take(filled.run.id, 60)
    store.journal.event(filled.run.id, "engine_failed", "it died")
    store.journal.event(filled.run.id, "paused", "resting", reasons=["gate"])
    store.gates.put(
        filled.iteration.id,
        [GateResult(gate=Gate.SPREAD, state=GateState.PAUSE, value=0.05, limit=0.1, message="too close")],
    )
    points = [MetricPoint(step=step, name="loss", value=1 / step) for step in (1, 2)]
    store.journal.add_metrics(filled.iteration.id, StageName.TRAIN, 1, points)
    families = scraped(client_of(store, tmp_path, filled.settings))
    assert values(families, "selfreward_daemon_up") == {("main",): 1}
    assert values(families, "selfreward_lease_fence") == {("main",): 1}
    assert 0 <= values(families, "selfreward_lease_heartbeat_age_seconds")[("main",)] < 60
    assert values(families, "selfreward_daemon_resting", reason="gate") == {("main",): 1}
    assert sum(values(families, "selfreward_daemon_resting").values()) == 1
    assert values(families, "selfreward_gate_state", state="pause") == {("main", "spread"): 1}
    assert values(families, "selfreward_gate_limit") == {("main", "spread"): 0.1}
    assert values(families, "selfreward_engine_restarts") == {("main",): 1}
    assert values(families, "selfreward_prompts", status="accepted") == {("main", ""): 3}
    assert values(families, "selfreward_candidates") == {("main", "ok"): 4}
    assert values(families, "selfreward_judgements") == {("main", "read"): 2, ("main", "unreadable"): 1}
    assert values(families, "selfreward_judgement_score_mean") == {("main",): 3}
    assert values(families, "selfreward_training_step") == {("main", "train"): 2}
    assert values(families, "selfreward_training_loss") == {("main", "train"): 0.5}
    missing = values(families, "selfreward_stage_items_missing", run="main")
    assert missing[("self_instruct",)] == filled.settings.self_instruct.target - 3
    assert values(families, "selfreward_database_bytes")[()] > 0


def test_what_a_finished_iteration_has_made_is_counted_once(finished: tuple[Store, Path]) -> None:
    store, directory = finished
    client = client_of(store, directory, load_settings(directory))
    first = scraped(client)
    asked: list[tuple[str, Any]] = []
    event.listen(store.database.engine, "before_cursor_execute", lambda *args: asked.append(args[2:4]))
    again = scraped(client)
    with closing(sqlite3.connect(directory / "selfreward.db")) as connection:
        done = {key for (key,) in connection.execute("select id from iteration where status = 'done'")}
    grouped = ("GROUP BY prompt.iteration_id", "GROUP BY pair_decision.iteration_id")
    counting = [given for sql, given in asked if any(by in " ".join(sql.split()) for by in grouped)]
    assert asked and done and not any(done & set(given) for given in counting), counting
    assert values(again, "selfreward_prompts") == values(first, "selfreward_prompts")


def test_of_very_many_runs_only_the_newest_are_told(filled: Filled, tmp_path: Path) -> None:
    for number in range(60):
        filled.store.runs.ensure(f"other-{number}")
    families = scraped(client_of(filled.store, tmp_path, filled.settings))
    told = {
        sample.labels["run"]
        for family in families.values()
        for sample in family.samples
        if "run" in sample.labels
    }
    assert len(told) == 50 and "other-59" in told


def test_an_empty_database_has_metrics_of_its_own(store: Store, tmp_path: Path) -> None:
    families = scraped(client_of(store, tmp_path))
    assert families["selfreward_database_bytes"].samples and not families["selfreward_iteration"].samples


def test_names_and_helps_follow_the_rules_of_prometheus() -> None:
    names = [measure.name for measure in MEASURES]
    assert len(set(names)) == len(names)
    for measure in MEASURES:
        assert measure.name.startswith("selfreward_") and measure.name == measure.name.lower(), measure.name
        assert measure.help.endswith(".") and len(measure.help) > 10, measure.name
        assert not set(measure.labels) & {"job", "instance", "le", "quantile"}, measure.name


def test_the_docs_have_every_metric_as_it_is() -> None:
    assert as_markdown() in DOCS.read_text(encoding="utf-8")


def test_alive_and_ready(store: Store, tmp_path: Path) -> None:
    client = client_of(store, tmp_path)
    assert client.get("/healthz").json()["status"] == "ok"
    ready = client.get("/readyz")
    assert (ready.status_code, ready.json()) == (200, {"status": "ready", "reasons": []})


def test_without_a_schema_it_is_alive_and_not_ready(tmp_path: Path) -> None:
    client = client_of(Store("sqlite:///none.db", tmp_path), tmp_path)
    assert client.get("/healthz").status_code == 200
    ready = client.get("/readyz")
    assert ready.status_code == 503 and "revision none" in ready.json()["reasons"][0]
    assert "selfreward db upgrade" in ready.json()["reasons"][0]
    families = scraped(client)
    assert set(families) == {"selfreward_build_info", "selfreward_database_ready"}
    assert values(families, "selfreward_database_ready") == {(): 0}


def test_with_a_run_it_is_ready_while_its_daemon_is_alive(filled: Filled, tmp_path: Path) -> None:
    client = client_of(filled.store, tmp_path)

    def reasons(name: str) -> tuple[int, str]:
        answer = client.get("/readyz", params={"run": name})
        return answer.status_code, json.dumps(answer.json()["reasons"])

    assert reasons("main") == (503, "[\"run 'main' was never started\"]")
    filled.store.leases.take(filled.run.id, 60)
    assert reasons("main") == (200, "[]")
    filled.store.leases.release()
    status, told = reasons("main")
    assert status == 503 and "has given it back" in told
    assert reasons("\x1b[31m<script>")[0] == 503


def test_figures_of_a_newer_checkpoint_take_the_place_of_older_ones(filled: Filled, tmp_path: Path) -> None:
    def figure(checkpoint: str, value: float) -> EvaluationRow:
        return EvaluationRow(
            checkpoint=checkpoint,
            suite=Suite.JUDGE,
            metric=Figure.PAIRWISE_ACCURACY,
            value=value,
            low=None,
            high=value,
            n=4,
        )

    runs, evaluations = filled.store.runs, filled.store.evaluations
    runs.add_checkpoint(filled.run.id, 2, filled.checkpoint.kind, "models/M_2", "digest-2")
    evaluations.put(filled.run.id, [figure("M_2", 0.75)])
    evaluations.put(filled.run.id, [figure("M_1", 0.5)])
    families = scraped(client_of(filled.store, tmp_path, filled.settings))
    assert values(families, "selfreward_evaluation") == {("main", "M_2", "judge", "pairwise_accuracy"): 0.75}
    assert not families["selfreward_evaluation_low"].samples


def test_scrapers_get_in_by_the_names_that_were_allowed(store: Store, tmp_path: Path) -> None:
    names = LOOPBACK | {"gpu1.example"}
    app = create_app(Site(store=store, settings=Settings(), directory=tmp_path, host_names=names))
    for path in ("/metrics", "/healthz", "/readyz"):
        assert TestClient(app, base_url="http://gpu1.example:8321").get(path).status_code == 200
        assert TestClient(app, base_url="http://elsewhere.example").get(path).status_code == 400


def test_pairs_are_told_by_outcome(filled: Filled, tmp_path: Path) -> None:
    prompts = [filled.prompt(f"prompt {n}", draw=n) for n in range(3)]
    decisions = [PairDecision(prompt_id=prompt, outcome=PairOutcome.TIE) for prompt in prompts]
    stage = filled.stage(StageName.PAIR)
    filled.store.pairs.decide(filled.iteration.id, filled.judge, stage.id, decisions, prompts[-1])
    families = scraped(client_of(filled.store, tmp_path, filled.settings))
    assert values(families, "selfreward_pair_decisions") == {("main", "tie"): 3}
