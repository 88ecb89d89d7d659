"""The health gates: is an iteration's judge fit to train M_{t+1}, or would the loop learn from noise?

Self-rewarding loops fail in known ways: judgements that cannot be read, scores that pile up at one value,
answers that grow because length is what is rewarded, a judge that drifts from people (arXiv 2401.10020,
2407.19594). Each gate looks at one of them; none repairs anything.
"""

from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from statistics import fmean

from selfreward.config import GateSettings
from selfreward.types import Gate, GateResult, GateState, ScoredPrompt

FLAT = 1e-9
"""A sum of squares below this is rounding: there was no variation."""


@dataclass(kw_only=True)
class Tally:
    """Running sums over judged prompts. Its size does not depend on how many there were."""

    histogram: Counter[int] = field(default_factory=Counter)
    """Readable judgements by score, rounded to 0–5."""
    prompts: int = 0
    """Prompts with two or more scored candidates; the sums below are over these."""
    ties: int = 0
    """Those whose candidates all have the same mean score."""
    spread: float = 0.0
    """Sum of best mean score − worst."""
    score_squares: float = 0.0
    length_squares: float = 0.0
    products: float = 0.0
    """Sums over candidates, of deviations from their prompt's mean: what one prompt has more of than
    another, in length or in score, is no part of them."""

    def add(self, page: Iterable[ScoredPrompt]) -> None:
        """Count these prompts in. Every prompt must come once."""
        for prompt in page:
            for candidate in prompt.candidates:
                self.histogram.update(int(score + 0.5) for score in candidate.scores)
            scored = [candidate for candidate in prompt.candidates if candidate.scores]
            if len(scored) > 1:
                # nine decimals: samples of 4.1 and 4.3 tie with samples of 4.2 and 4.2
                self._add_prompt([round(fmean(c.scores), 9) for c in scored], [len(c.text) for c in scored])

    def _add_prompt(self, means: Sequence[float], lengths: Sequence[int]) -> None:
        mean_score, mean_length = fmean(means), fmean(lengths)
        self.prompts += 1
        self.ties += min(means) == max(means)
        self.spread += max(means) - min(means)
        for score, length in zip(means, lengths, strict=True):
            self.score_squares += (score - mean_score) ** 2
            self.length_squares += (length - mean_length) ** 2
            self.products += (score - mean_score) * (length - mean_length)

    @property
    def length_correlation(self) -> float | None:
        """Pearson's, within prompts; None where scores or lengths do not vary."""
        if self.score_squares < FLAT or self.length_squares < FLAT:
            return None
        return float(self.products / (self.score_squares * self.length_squares) ** 0.5)


@dataclass(frozen=True, kw_only=True)
class Evidence:
    """What the judge of an iteration did, and how its checkpoint fares on held-out seeds."""

    tally: Tally
    judgements: int
    """Judgements asked for, readable or not."""
    readable: int
    mean_length: float | None = None
    """Characters of this checkpoint's held-out answers; None where there are none."""
    mean_length_first: float | None = None
    """The same of M_1."""
    judge_accuracy: float | None = None
    """Pairwise accuracy on held-out ranks."""
    first_accuracy_low: float | None = None
    """Lower end of the 95% interval of M_1's."""
    is_first: bool = False
    """This checkpoint is M_1, with which later ones are compared."""


@dataclass(frozen=True, kw_only=True)
class Finding:
    """What one gate measured, before it is decided what that means."""

    value: float | None
    limit: float | None
    message: str
    """What was found, against which limit; why there is no value, where there is none."""
    tripped: bool = False
    advice: str = ""
    """What to try if it tripped."""


def check(evidence: Evidence, settings: GateSettings) -> list[GateResult]:
    """One result for each gate, in the order of `Gate`; none if gates are off. A value at its limit is ok."""
    if not settings.enabled:
        return []
    return [_result(gate, GATES[gate](evidence, settings), settings) for gate in Gate]


def _result(gate: Gate, finding: Finding, settings: GateSettings) -> GateResult:
    state = GateState.OK
    if finding.value is None:
        state = GateState.SKIPPED
    elif finding.tripped:
        state = GateState.PAUSE if gate in settings.pause else GateState.WARN
    message = f"{finding.message} {finding.advice}" if finding.tripped else finding.message
    return GateResult(gate=gate, state=state, value=finding.value, limit=finding.limit, message=message)


def _skipped(reason: str, limit: float | None = None) -> Finding:
    return Finding(value=None, limit=limit, message=reason)


def _too_few(count: int, what: str, limit: float, settings: GateSettings) -> Finding:
    return _skipped(
        f"Not looked at: {count} {what}, fewer than gates.min_items = {settings.min_items}.", limit
    )


def _readable_share(evidence: Evidence, settings: GateSettings) -> Finding:
    count, limit = evidence.judgements, settings.min_readable_share
    if count < settings.min_items:
        return _too_few(count, "judgements", limit, settings)
    share = evidence.readable / count
    return Finding(
        value=share,
        limit=limit,
        tripped=share < limit,
        message=f"{share:.1%} of {count} judgements could be read (gates.min_readable_share = {limit:g}).",
        advice='Try bootstrap.mode = "sft", judge.guided = true, or a larger judge.max_tokens.',
    )


def _one_score_share(evidence: Evidence, settings: GateSettings) -> Finding:
    histogram, limit = evidence.tally.histogram, settings.max_one_score_share
    count = histogram.total()
    if count < settings.min_items:
        return _too_few(count, "readable judgements", limit, settings)
    # of two scores as common as each other the lower, in whatever order they came
    score, most = max(histogram.items(), key=lambda item: (item[1], -item[0]))
    return Finding(
        value=most / count,
        limit=limit,
        tripped=most / count > limit,
        message=f"{most / count:.1%} of {count} scores are {score} (gates.max_one_score_share = {limit:g}).",
        advice="The judge tells little apart: try a smaller bootstrap.max_common_share,"
        ' judge.score = "expected", or another judge.template.',
    )


def _tie_share(evidence: Evidence, settings: GateSettings) -> Finding:
    count, limit = evidence.tally.prompts, settings.max_tie_share
    if count < settings.min_items:
        return _too_few(count, "prompts with two scored candidates", limit, settings)
    share = evidence.tally.ties / count
    return Finding(
        value=share,
        limit=limit,
        tripped=share > limit,
        message=f"In {share:.1%} of {count} prompts all candidates have the same score and make no pair"
        f" (gates.max_tie_share = {limit:g}).",
        advice='Try judge.score = "expected", more judge.samples, or a higher sample.temperature.',
    )


def _spread(evidence: Evidence, settings: GateSettings) -> Finding:
    count, limit = evidence.tally.prompts, settings.min_spread
    if count < settings.min_items:
        return _too_few(count, "prompts with two scored candidates", limit, settings)
    spread = evidence.tally.spread / count
    return Finding(
        value=spread,
        limit=limit,
        tripped=spread < limit,
        message=f"Best and worst candidate are {spread:.2f} points apart on average over {count} prompts"
        f" (gates.min_spread = {limit:g}).",
        advice="Try more sample.candidates, a higher sample.temperature,"
        " or dropping close pairs by pair.min_margin.",
    )


def _length_correlation(evidence: Evidence, settings: GateSettings) -> Finding:
    count, limit = evidence.tally.prompts, settings.max_length_correlation
    if count < settings.min_items:
        return _too_few(count, "prompts with two scored candidates", limit, settings)
    correlation = evidence.tally.length_correlation
    if correlation is None:
        return _skipped("Not looked at: within prompts, scores or lengths are all the same.", limit)
    return Finding(
        value=correlation,
        limit=limit,
        tripped=correlation > limit,
        message=f"Within prompts, score and length correlate at {correlation:.2f}"
        f" (gates.max_length_correlation = {limit:g}).",
        advice="The judge may reward length alone: try a judge.template that asks for brevity,"
        " or a smaller sample.max_tokens.",
    )


def _length_growth(evidence: Evidence, settings: GateSettings) -> Finding:
    limit, now, first = settings.max_length_growth, evidence.mean_length, evidence.mean_length_first
    if evidence.is_first:
        return _skipped("Not looked at: this is M_1, with which later checkpoints are compared.", limit)
    if now is None or not first:
        return _skipped("Not looked at: no held-out answers of this checkpoint, or none of M_1.", limit)
    return Finding(
        value=now / first,
        limit=limit,
        tripped=now / first > limit,
        message=f"Held-out answers have {now:.0f} characters on average, {now / first:.2f} times M_1's"
        f" {first:.0f} (gates.max_length_growth = {limit:g}).",
        advice="Try a smaller sample.max_tokens, or a larger train.beta to stay nearer to M_t.",
    )


def _judge_accuracy(evidence: Evidence, settings: GateSettings) -> Finding:
    now, low = evidence.judge_accuracy, evidence.first_accuracy_low
    if not settings.judge_accuracy:
        return _skipped("Not looked at: gates.judge_accuracy is false.")
    if evidence.is_first:
        return _skipped("Not looked at: this is M_1, with which later checkpoints are compared.")
    if now is None or low is None:
        return _skipped(
            "Not looked at: held-out ranks were not judged by this checkpoint, or not by M_1.", low
        )
    return Finding(
        value=now,
        limit=low,
        tripped=now < low,
        message=f"The judge agrees with people on {now:.1%} of held-out pairs; the interval of M_1's"
        f" accuracy begins at {low:.1%} (gates.judge_accuracy).",
        advice="Training has made it a worse judge: try a larger train.beta, a smaller train.learning_rate,"
        " or a larger pair.min_margin.",
    )


GATES: Mapping[Gate, Callable[[Evidence, GateSettings], Finding]] = {
    Gate.READABLE_SHARE: _readable_share,
    Gate.ONE_SCORE_SHARE: _one_score_share,
    Gate.TIE_SHARE: _tie_share,
    Gate.SPREAD: _spread,
    Gate.LENGTH_CORRELATION: _length_correlation,
    Gate.LENGTH_GROWTH: _length_growth,
    Gate.JUDGE_ACCURACY: _judge_accuracy,
}
"""What looks at what."""
