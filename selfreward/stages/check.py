"""The health gates: looks at what M_t's judge did before anything is trained on it."""

from dataclasses import replace

from selfreward.crash import crash_point
from selfreward.health import Evidence, Tally, check
from selfreward.stages.judge import judge_of
from selfreward.stages.workplace import Drained, Held, Workplace
from selfreward.types import (
    EvaluationRow,
    Gate,
    GateResult,
    GateState,
    Metric,
    StageName,
    Status,
    Suite,
)
from selfreward.whereabouts import enter_stage

PAGE = 250
LOUD = (GateState.WARN, GateState.ACCEPTED)


def run(place: Workplace) -> None:
    """Check the iteration against `settings.gates`; the findings are rows, warnings are told.

    Raises Held when a gate pauses that no user has let pass, Drained between two pages when asked to stop.
    """
    enter_stage(StageName.CHECK)
    store = place.store
    stage = store.runs.begin_stage(place.iteration.id, StageName.CHECK)
    if stage.status is Status.DONE:
        return
    accepted = {
        result.gate
        for t, result in store.gates.rows(place.run.id)
        if t == place.iteration.t and result.state is GateState.ACCEPTED
    }
    found = [_applicable(place, result) for result in check(_evidence(place), place.settings.gates)]
    results = [_let_through(result, accepted) for result in found]
    store.gates.put(place.iteration.id, results)
    crash_point("check:stored")
    for result in results:
        if result.state is GateState.WARN:
            _tell(place, result)
    if paused := [result for result in results if result.state is GateState.PAUSE]:
        message = "\n".join(f"{result.gate}: {result.message}" for result in paused)
        store.runs.fail_stage(stage.id, Status.HALTED, message)
        raise Held(message)
    store.runs.finish_stage(stage.id, _describe(results))


def _applicable(place: Workplace, result: GateResult) -> GateResult:
    """Expectations lie close together and still differ: rounded to one score, they say nothing."""
    if result.gate is not Gate.ONE_SCORE_SHARE or place.settings.judge.score == "sampled":
        return result
    told = "scores are expectations: ties and spread tell whether they differ"
    return replace(result, state=GateState.SKIPPED, value=None, message=told)


def _let_through(result: GateResult, accepted: set[Gate]) -> GateResult:
    if result.state is GateState.PAUSE and result.gate in accepted:
        return replace(result, state=GateState.ACCEPTED)
    return result


def _evidence(place: Workplace) -> Evidence:
    """Sums over the iteration's judged prompts, and what was measured of M_t and M_1."""
    store, judge = place.store, judge_of(place)
    tally, cursor = Tally(), 0
    while prompts := store.pairs.undecided(place.data_iteration, judge, cursor, PAGE):
        if place.stop.is_set():
            raise Drained
        cursor = prompts[-1].id
        tally.add(prompts)
    judgements, readable, _ = store.candidates.judged(place.data_iteration, judge)
    length = _figure(place, place.checkpoint.name, Suite.ASSISTANT, Metric.MEAN_LENGTH)
    accuracy = _figure(place, place.checkpoint.name, Suite.JUDGE, Metric.PAIRWISE_ACCURACY)
    first_length = _figure(place, "M_1", Suite.ASSISTANT, Metric.MEAN_LENGTH)
    first_accuracy = _figure(place, "M_1", Suite.JUDGE, Metric.PAIRWISE_ACCURACY)
    return Evidence(
        tally=tally,
        judgements=judgements,
        readable=readable,
        mean_length=length.value if length else None,
        mean_length_first=first_length.value if first_length else None,
        judge_accuracy=accuracy.value if accuracy else None,
        first_accuracy_low=first_accuracy.low if first_accuracy else None,
        is_first=place.checkpoint.name == "M_1",
    )


def _figure(place: Workplace, checkpoint: str, suite: Suite, metric: Metric) -> EvaluationRow | None:
    return place.store.evaluations.figure(place.run.id, checkpoint, suite, metric)


def _tell(place: Workplace, result: GateResult) -> None:
    place.reporter.say(f"gate {result.gate}: {result.message}", level="warning")
    place.store.journal.event(
        place.run.id,
        "gate_warning",
        f"{result.gate}: {result.message}",
        place.iteration.id,
        value=result.value,
        limit=result.limit,
    )


def _describe(results: list[GateResult]) -> str:
    """Counts of what was found, the findings that are not fine by name."""
    loud = [f"{result.gate} {result.state}" for result in results if result.state in LOUD]
    quiet = sum(result.state is GateState.OK for result in results)
    return ", ".join([f"{quiet} gates ok", *loud])
