"""Settings that contradict each other, each valid alone: found before anything starts, with a way out.

`conflicts` are refused where settings are read; `ignored` are said at a start, and nothing more: what has
no effect does no harm. Both look at settings only; what needs a model or rows is in selfreward/preflight.py.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass

from selfreward.config import reinforcement
from selfreward.config.settings import Settings

SMOOTHED = ("robust", "exo_pair")
"""Losses of TRL's that know train.label_smoothing."""
ON_PAIRS = ("dpo", "cdpo", "cream", "slic")
"""Objectives that take any pair of texts, a pair of judgements too."""
FOR_PAIRS = (*ON_PAIRS, "reward_model")
"""Objectives that learn from the pairs and from nothing else."""


@dataclass(frozen=True, kw_only=True)
class Conflict:
    """Settings that cannot be together."""

    keys: tuple[str, ...]
    """Dotted, the one to look at first."""
    message: str
    remedy: str
    """The settings that would work."""


Check = Callable[[Settings], Iterator[Conflict]]


def conflicts(settings: Settings) -> list[Conflict]:
    """Everything that cannot be together, in the order of the loop."""
    return [found for check in CHECKS for found in check(settings)]


def _endpoints(settings: Settings) -> Iterator[Conflict]:
    for table, endpoint in (
        ("judge", settings.judge.endpoint),
        ("self_instruct", settings.self_instruct.endpoint),
    ):
        if bool(endpoint.url) != bool(endpoint.model):
            lacks, has = ("model", "url") if endpoint.url else ("url", "model")
            yield Conflict(
                keys=(f"{table}.endpoint.{has}", f"{table}.endpoint.{lacks}"),
                message=f"an endpoint needs both, and {table}.endpoint.{lacks} is not set",
                remedy=f"Set {table}.endpoint.{lacks}, or leave the endpoint out.",
            )


def _prompt_writer(settings: Settings) -> Iterator[Conflict]:
    if settings.self_instruct.endpoint.url and settings.self_instruct.mode != "chat":
        yield Conflict(
            keys=("self_instruct.endpoint.url", "self_instruct.mode"),
            message="another model is asked in chat, and self_instruct.mode is "
            f'"{settings.self_instruct.mode}"',
            remedy='Set self_instruct.mode = "chat".',
        )


def _judge(settings: Settings) -> Iterator[Conflict]:
    judge = settings.judge
    if judge.type == "reward_model" and not judge.reward_model:
        yield Conflict(
            keys=("judge.type",),
            message='judge.type = "reward_model" without a reward model',
            remedy="Set judge.reward_model to a directory or a hub id (org/name) with a sequence classifier, "
            'or to a checkpoint of this run such as "R_1" (train.objective = "reward_model" makes one).',
        )
    if judge.endpoint.url and judge.type == "reward_model":
        yield Conflict(
            keys=("judge.endpoint.url", "judge.type"),
            message="a reward model is served here, not by an endpoint",
            remedy='Set judge.type = "rubric" or "pairwise", or leave judge.endpoint out.',
        )


def _probabilities(settings: Settings) -> Iterator[Conflict]:
    """An endpoint gives no probabilities of tokens, and forces no reply into a format."""
    judge = settings.judge
    if judge.endpoint.url and judge.type == "rubric" and judge.score != "sampled":
        yield Conflict(
            keys=("judge.score", "judge.endpoint.url"),
            message=f'judge.score = "{judge.score}" needs the probabilities of tokens, which an endpoint does'
            " not give",
            remedy='Set judge.score = "sampled", or judge.type = "pairwise", whose written verdicts count.',
        )
    if judge.endpoint.url and judge.type == "rubric" and judge.guided:
        yield Conflict(
            keys=("judge.guided", "judge.endpoint.url"),
            message="judge.guided forces replies into a format, which an endpoint cannot",
            remedy="Set judge.guided = false.",
        )


def _meta(settings: Settings) -> Iterator[Conflict]:
    """Judgements are compared, and learnt from, where M_t has written several of an answer."""
    judge, objective = settings.judge, settings.train.objective
    if not judge.meta.enabled:
        return
    wrong = {
        "judge.type": (
            judge.type != "rubric",
            f'with judge.type = "{judge.type}" there is no judgement of one answer',
            'Set judge.type = "rubric".',
        ),
        "judge.score": (
            judge.score == "direct",
            'with judge.score = "direct" none is written',
            'Set judge.score = "sampled" or "expected".',
        ),
        "judge.samples": (judge.samples < 2, "an answer has only one", "Set judge.samples to 2 or more."),
        "judge.endpoint.url": (
            bool(judge.endpoint.url),
            "an endpoint's are not those that the model could learn from",
            "Leave judge.endpoint out.",
        ),
        "train.objective": (
            objective not in ON_PAIRS,
            f'train.objective = "{objective}" learns from no pairs of them',
            f"Set train.objective = {_quoted(ON_PAIRS)}.",
        ),
    }
    for key, (is_wrong, why, remedy) in wrong.items():
        if is_wrong:
            message = f"judge.meta compares judgements of one answer, and {why}"
            yield Conflict(keys=(key, "judge.meta.enabled"), message=message, remedy=remedy)


def _objective(settings: Settings) -> Iterator[Conflict]:
    yield from OBJECTIVES.get(settings.train.objective, _nothing)(settings)


def _nothing(_settings: Settings) -> Iterator[Conflict]:
    return iter(())


def _rrhf(settings: Settings) -> Iterator[Conflict]:
    if settings.judge.type == "pairwise" and settings.judge.pairwise.opponents == "tournament":
        yield Conflict(
            keys=("judge.pairwise.opponents", "train.objective"),
            message='train.objective = "rrhf" ranks all candidates of a prompt, and a tournament does not '
            "compare them all",
            remedy='Set judge.pairwise.opponents = "all", or judge.type = "rubric" or "reward_model".',
        )
    yield from _scores_only(settings)


def _scores_only(settings: Settings) -> Iterator[Conflict]:
    """What learns from the candidates' scores learns nothing from imported preferences."""
    if settings.pair.imported_share == 1:
        yield Conflict(
            keys=("pair.imported_share", "train.objective"),
            message=f'train.objective = "{settings.train.objective}" learns from scores, and imported '
            "preferences have none",
            remedy=f"Set pair.imported_share = 0, or train.objective = {_quoted(FOR_PAIRS)}.",
        )


def _cdpo(settings: Settings) -> Iterator[Conflict]:
    labelled = settings.pair.soft_labels and settings.judge.type in ("pairwise", "reward_model")
    if not labelled and not settings.train.label_smoothing:
        yield Conflict(
            keys=("train.objective", "pair.soft_labels"),
            message='train.objective = "cdpo" learns from soft labels, and the pairs have none',
            remedy='Set pair.soft_labels = true with judge.type = "pairwise" or "reward_model", or '
            "train.label_smoothing above 0 for the same label on every pair.",
        )


def _cream(settings: Settings) -> Iterator[Conflict]:
    judge = settings.judge
    if judge.endpoint.url or judge.type == "reward_model":
        whose = "a reward model's" if judge.type == "reward_model" else "an endpoint's"
        yield Conflict(
            keys=("judge.endpoint.url" if judge.endpoint.url else "judge.type", "train.objective"),
            message='train.objective = "cream" compares the ranking of M_t with that of M_{t-1}, and '
            f"{whose} is neither",
            remedy='Set judge.type = "rubric" or "pairwise", without judge.endpoint.',
        )


def _rl(settings: Settings) -> Iterator[Conflict]:
    for keys, message, remedy in reinforcement.problems(settings):
        yield Conflict(keys=keys, message=message, remedy=remedy)


OBJECTIVES: dict[str, Check] = {
    "cdpo": _cdpo,
    "cream": _cream,
    "rrhf": _rrhf,
    "sft_positive": _scores_only,
    "rl": _rl,
}
CHECKS: tuple[Check, ...] = (_endpoints, _prompt_writer, _judge, _probabilities, _meta, _objective)


def _quoted(names: tuple[str, ...]) -> str:
    return ", ".join(f'"{name}"' for name in names[:-1]) + f' or "{names[-1]}"'


def ignored(settings: Settings) -> list[str]:
    """What was set and has no effect beside the rest, in words."""
    return [said for applies, said in _without_effect(settings) if applies]


def _without_effect(settings: Settings) -> Iterator[tuple[bool, str]]:
    train, judge, pair = settings.train, settings.judge, settings.pair
    objective = f'train.objective = "{train.objective}"'
    defaults = type(train)()
    own = {
        "losses": train.objective == "dpo",
        "loss_weights": train.objective == "dpo",
        "label_smoothing": train.objective == "cdpo"
        or (train.objective == "dpo" and bool(set(SMOOTHED) & set(train.losses))),
        "positive_score": train.objective == "sft_positive",
        "rrhf_weight": train.objective == "rrhf",
        "slic": train.objective == "slic",
    }
    for key, is_used in own.items():
        if not is_used and getattr(train, key) != getattr(defaults, key):
            why = f" and these losses (it is for {', '.join(SMOOTHED)})" if key == "label_smoothing" else ""
            yield True, f"train.{key} has no effect with {objective}{why}"
    yield (
        train.objective in ("rrhf", "sft_positive") and pair.rule != "best_worst",
        f"pair.rule has no effect with {objective}: it learns from scores, not from pairs",
    )
    yield (
        train.objective in ("rrhf", "sft_positive") and 0 < pair.imported_share < 1,
        f"pair.imported_share has no effect with {objective}: it learns from scores, not from pairs",
    )
    yield (
        pair.soft_labels and judge.type == "rubric",
        'pair.soft_labels has no effect with judge.type = "rubric": its scores say nothing of probabilities',
    )
    yield (
        train.objective == "slic" and train.slic.target == "reference" and pair.imported_share == 0,
        'train.slic.target = "reference" has no effect with pair.imported_share = 0: prompts that a model '
        "wrote have no reference answer; chosen is taken",
    )
    yield (
        pair.imported_share == 1 and pair.rule != "best_worst",
        "pair.rule has no effect with pair.imported_share = 1: no pair is drawn from scores",
    )
    yield (
        judge.type != "rubric" and judge.guided,
        f'judge.guided has no effect with judge.type = "{judge.type}"',
    )
