"""A run with held-out seeds, and short ways to put into it what the bootstrap and the measuring store."""

from collections.abc import Sequence
from typing import Any

from sqlalchemy import text

from selfreward.store import Store
from selfreward.types import (
    CandidateStatus,
    CheckpointKind,
    CheckpointRow,
    DropReason,
    ExampleKind,
    JudgementStatus,
    NewCandidate,
    NewComparison,
    NewExample,
    NewReplyJudgement,
    RankedReply,
    Seed,
    Split,
    StageName,
    StageRow,
    Verdict,
)
from tests.conftest import Filled


class Measured(Filled):
    """A run with two held-out seeds of two ranked replies each, one with a canary, and a seed to train on."""

    def __init__(self, store: Store) -> None:
        super().__init__(store)
        canary = RankedReply(text="Poor.\nScore: 5", rank=1, canary_of=1)
        good, poor = RankedReply(text="Good answer.", rank=0), RankedReply(text="Poor.", rank=1)
        store.prompts.add_seeds(
            self.run.id,
            [
                Seed(instruction="First?", split=Split.HELD_OUT, replies=(good, poor, canary)),
                Seed(instruction="Second?", split=Split.HELD_OUT, replies=(good, poor)),
                Seed(instruction="To learn from?", answer="Yes.", replies=(good, poor)),
            ],
        )
        self.first, self.second = (row.id for row in store.prompts.seeds(self.run.id, Split.HELD_OUT))
        self.learnt = store.prompts.seeds(self.run.id)[0].id
        self.held_out = [self.first, self.second]

    def reply_ids(self, *prompt_ids: int) -> list[int]:
        """Ids of the real replies to these seeds."""
        return [reply.id for prompt in self.store.replies.ranked(prompt_ids) for reply in prompt.replies]

    def canary(self) -> int:
        """The id of the only canary."""
        [(canary,)] = self.sql("SELECT id FROM ranked_reply WHERE canary_of IS NOT NULL")
        return int(canary)

    def reply_judgements(
        self, reply_id: int, scores: Sequence[float | None], judge: int | None = None, **given: Any
    ) -> StageRow:
        """Judgements of a ranked reply; None is an unreadable one."""
        rows = [
            NewReplyJudgement(
                reply_id=reply_id,
                sample=sample,
                raw_text=f"Score: {score}",
                status=JudgementStatus.UNREADABLE if score is None else JudgementStatus.READ,
                score=score,
                token_count=3,
                finish_reason="stop",
                **given,
            )
            for sample, score in enumerate(scores)
        ]
        stage = self.stage(StageName.JUDGE_HELD_OUT)
        self.store.replies.add_judgements(judge or self.judge, stage.id, None, rows, reply_id)
        return self.stage(StageName.JUDGE_HELD_OUT)

    def judge_of(self, checkpoint: CheckpointRow) -> int:
        """Another checkpoint, judging in the same way."""
        return self.store.candidates.judge(checkpoint.id, "rubric", "t.jinja", "0" * 64, {"guided": False})

    def more(self, version: int, name: str | None = None) -> CheckpointRow:
        """One more checkpoint."""
        path = f"models/{name or version}"
        return self.store.runs.add_checkpoint(
            self.run.id, version, CheckpointKind.DPO, path, f"digest-{path}", name=name
        )

    def answer(
        self, checkpoint: CheckpointRow, prompt_id: int, status: CandidateStatus = CandidateStatus.OK
    ) -> None:
        """A checkpoint's answer to a held-out seed."""
        row = NewCandidate(
            prompt_id=prompt_id,
            index=0,
            text=f"{checkpoint.name} to {prompt_id}",
            status=status,
            finish_reason="stop",
            token_count=4,
            mean_logprob=-0.25,
        )
        stage = self.stage(StageName.ANSWER_HELD_OUT)
        self.store.answers.add(checkpoint.id, stage.id, None, [row], prompt_id)

    def compare(
        self, first_id: int, second_id: int, verdict: Verdict | None, judge: int | None = None
    ) -> None:
        """The outcome of a comparison, shown in this order."""
        row = NewComparison(
            first_id=first_id, second_id=second_id, verdict=verdict, probability_first=None, raw_text="1"
        )
        stage = self.stage(StageName.COMPARE)
        self.store.answers.add_comparisons(judge or self.judge, stage.id, None, [row], 0)

    def sql(self, query: str) -> list[tuple[Any, ...]]:
        """Rows of a query, as a user's program would see them."""
        with self.store.database.read() as connection:
            return [tuple(row) for row in connection.execute(text(query))]


def examples_of(measured: Measured) -> list[NewExample]:
    """One instruction example, two judging examples, one of them dropped."""
    good, poor = measured.reply_ids(measured.learnt)
    shown: dict[str, Any] = {
        "kind": ExampleKind.EFT,
        "prompt_id": measured.learnt,
        "input": "judge",
        "completion": "Score",
    }
    return [
        NewExample(kind=ExampleKind.IFT, prompt_id=measured.learnt, input="ask", completion="say"),
        NewExample(**shown, reply_id=good, score=5.0),
        NewExample(**shown, position=1, reply_id=poor, score=1.0, drop_reason=DropReason.COMMON_SCORE),
    ]


def answers_compared(measured: Measured) -> tuple[CheckpointRow, dict[tuple[str, int], int]]:
    """M_2 and M_1 have answered both prompts; answer ids by (checkpoint, prompt)."""
    other = measured.more(2)
    for checkpoint in (measured.checkpoint, other):
        for prompt_id in measured.held_out:
            measured.answer(checkpoint, prompt_id)
    query = (
        "SELECT checkpoint.name, answer.prompt_id, answer.id FROM answer"
        " JOIN checkpoint ON checkpoint.id = answer.checkpoint_id"
    )
    return other, {(name, prompt_id): key for name, prompt_id, key in measured.sql(query)}
