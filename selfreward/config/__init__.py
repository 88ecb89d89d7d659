"""Settings: one TOML file per run, parsed into frozen models that know every key they accept.

`settings` is the whole tree; `generation`, `training` and `watching` hold its tables, in the order in
which the loop uses them; `files` reads and writes them, `presets` are
ready ones, `consistency` says which of them contradict each other, `changes` compares them.
"""

from selfreward.config.changes import Change, changes, that_matter
from selfreward.config.files import (
    load_settings,
    parse_settings,
    render_settings,
)
from selfreward.config.generation import (
    EndpointSettings,
    EngineSettings,
    JudgeSettings,
    MetaSettings,
    PairSettings,
    PairwiseSettings,
    SampleSettings,
    SamplingSettings,
    SeedSettings,
    SelfInstructSettings,
)
from selfreward.config.presets import load_preset, method_names, preset_names
from selfreward.config.section import Scalar, Section
from selfreward.config.settings import DatabaseSettings, Settings, setting_names
from selfreward.config.training import (
    BootstrapSettings,
    LoraSettings,
    RewardSettings,
    RlSettings,
    SftSettings,
    SlicSettings,
    TrainerSettings,
    TrainSettings,
)
from selfreward.config.watching import (
    DaemonSettings,
    EvaluationSettings,
    GateSettings,
    IndependentJudgeSettings,
    NotifySettings,
)
from selfreward.places import SETTINGS_FILE

__all__ = [
    "SETTINGS_FILE",
    "BootstrapSettings",
    "Change",
    "DaemonSettings",
    "DatabaseSettings",
    "EndpointSettings",
    "EngineSettings",
    "EvaluationSettings",
    "GateSettings",
    "IndependentJudgeSettings",
    "JudgeSettings",
    "LoraSettings",
    "MetaSettings",
    "NotifySettings",
    "PairSettings",
    "PairwiseSettings",
    "RewardSettings",
    "RlSettings",
    "SampleSettings",
    "SamplingSettings",
    "Scalar",
    "Section",
    "SeedSettings",
    "SelfInstructSettings",
    "Settings",
    "SftSettings",
    "SlicSettings",
    "TrainSettings",
    "TrainerSettings",
    "changes",
    "load_preset",
    "load_settings",
    "method_names",
    "parse_settings",
    "preset_names",
    "render_settings",
    "setting_names",
    "that_matter",
]
