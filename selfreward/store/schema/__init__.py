"""The tables: the one definition of the schema. Migrations are checked against it, docs are made from it."""

from selfreward.store.schema.base import CleanJson, CleanText, Table, UtcDateTime
from selfreward.store.schema.generation import (
    Candidate,
    Judge,
    Judgement,
    PairDecision,
    PreferencePair,
    Prompt,
    PromptDemonstration,
    TrainingMetric,
)
from selfreward.store.schema.measuring import (
    Answer,
    AnswerComparison,
    Evaluation,
    GateCheck,
    RankedReply,
    ReplyJudgement,
    SftExample,
)
from selfreward.store.schema.methods import (
    CandidateComparison,
    Consistency,
    ImportedPreference,
    JudgementComparison,
    JudgementPair,
)
from selfreward.store.schema.runs import (
    Checkpoint,
    ControlRequest,
    EngineSession,
    Event,
    ItemFailure,
    Iteration,
    Lease,
    Run,
    Setting,
    Stage,
)
from selfreward.store.schema.search import is_compared
from selfreward.store.schema.tallies import CandidateTally, JudgementTally
from selfreward.store.schema.views import VIEWS, View

__all__ = [
    "VIEWS",
    "Answer",
    "AnswerComparison",
    "Candidate",
    "CandidateComparison",
    "CandidateTally",
    "Checkpoint",
    "CleanJson",
    "CleanText",
    "Consistency",
    "ControlRequest",
    "EngineSession",
    "Evaluation",
    "Event",
    "GateCheck",
    "ImportedPreference",
    "ItemFailure",
    "Iteration",
    "Judge",
    "Judgement",
    "JudgementComparison",
    "JudgementPair",
    "JudgementTally",
    "Lease",
    "PairDecision",
    "PreferencePair",
    "Prompt",
    "PromptDemonstration",
    "RankedReply",
    "ReplyJudgement",
    "Run",
    "Setting",
    "SftExample",
    "Stage",
    "Table",
    "TrainingMetric",
    "UtcDateTime",
    "View",
    "is_compared",
]
