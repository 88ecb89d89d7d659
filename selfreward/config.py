"""Settings: one TOML file per run, parsed into frozen models that know every key they accept."""

import difflib
import hashlib
import json
import os
import re
import tomllib
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, Literal, Self

import tomlkit
from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator

from selfreward.errors import BadInput
from selfreward.resources import presets_dir
from selfreward.types import Gate

SETTINGS_FILE = "selfreward.toml"
ENV_PREFIX = "SELFREWARD_"
ENV_NOT_SETTINGS = frozenset({"SELFREWARD_CRASH_AT"})

Scalar = str | int | float | bool


class Section(BaseModel):
    """Base of every settings table: frozen, and closed to keys it does not know."""

    model_config = ConfigDict(
        frozen=True, extra="forbid", use_attribute_docstrings=True, protected_namespaces=()
    )


class DatabaseSettings(Section):
    """Where every row goes."""

    url: str = "sqlite:///selfreward.db"
    """SQLAlchemy URL. A relative SQLite path is taken from the run's directory; PostgreSQL is postgresql+psycopg://user@host/name."""


class EngineSettings(Section):
    """The inference server that writes, answers and judges."""

    type: Literal["vllm", "fake"] = "vllm"
    """`vllm`, or `fake`: scripted replies from a real server, for tests of everything around the model."""
    dtype: Literal["auto", "bfloat16", "float16", "float32"] = "auto"
    """Number format of the served weights."""
    max_model_len: int | None = Field(default=None, ge=64)
    """Longest prompt + reply in tokens. Unset: the model's own limit."""
    memory: float = Field(default=0.9, gt=0, le=1)
    """GPU: share of its memory that vLLM may use."""
    cpu_kv_cache_gib: int = Field(default=4, ge=1)
    """CPU build: GiB set aside for the key-value cache."""
    tensor_parallel_size: int = Field(default=1, ge=1)
    """GPUs over which one copy of the model is split."""
    data_parallel_size: int = Field(default=1, ge=1)
    """Copies of the model that answer side by side."""
    max_num_seqs: int = Field(default=128, ge=1)
    """Sequences that the server works on at once."""
    concurrency: int = Field(default=64, ge=1)
    """Requests kept in flight by each stage."""
    enforce_eager: bool | None = None
    """Skip compilation: starts sooner, generates somewhat slower. Unset: eager on CPU, compiled on GPU."""
    port: int = Field(default=0, ge=0, le=65535)
    """Loopback port to serve on; 0 takes a free one."""
    start_timeout_s: float = Field(default=600, gt=0)
    """How long the server may take until it is healthy."""
    request_timeout_s: float = Field(default=600, gt=0)
    """How long one request may take."""
    extra_args: dict[str, Scalar] = Field(default_factory=dict)
    """Any further vLLM argument, without the dashes: {"quantization" = "fp8"}; true gives a bare flag."""


class SeedSettings(Section):
    """The human-written instructions that everything starts from."""

    files: tuple[str, ...] = ("builtin", "builtin:ranked")
    """`builtin`, `builtin:ranked`, `hub:OpenAssistant/oasst1`, files: JSONL, OpenAssistant trees, Parquet."""
    held_out: float = Field(default=0.33, ge=0, le=1)
    """Share of the seeds with ranked replies that is kept for measuring, where a file does not say which."""


class SamplingSettings(Section):
    """How replies are drawn from the model."""

    temperature: float = Field(default=0.7, ge=0)
    """Sampling temperature; 0 is greedy."""
    top_p: float = Field(default=0.9, gt=0, le=1)
    """Nucleus sampling: smallest set of tokens with this much probability. Below 1 it is slow on CPUs."""
    top_k: int = Field(default=0, ge=0)
    """Sample from the k likeliest tokens; 0: from all. On CPUs a cheap stand-in for top_p."""
    max_tokens: int = Field(default=512, ge=1)
    """Longest reply in tokens; a reply that reaches it is marked as cut off."""


class SelfInstructSettings(SamplingSettings):
    """Writing new prompts (Self-Instruct, arXiv 2212.10560)."""

    temperature: float = Field(default=0.6, ge=0)
    """Sampling temperature of the prompt writer."""
    max_tokens: int = Field(default=192, ge=1)
    """Longest new prompt in tokens; one that reaches it is rejected as cut off."""
    target: int = Field(default=1000, ge=1)
    """Accepted new prompts per iteration."""
    max_attempts: int = Field(default=10000, ge=1)
    """Give up after this many written prompts, accepted or not, and go on with what there is."""
    per_request: int = Field(default=1, ge=1)
    """Prompts sampled from one set of demonstrations in one request."""
    seed_demonstrations: int = Field(default=6, ge=1)
    """Demonstrations drawn from the seeds."""
    model_demonstrations: int = Field(default=2, ge=0)
    """Demonstrations drawn from prompts the model wrote before; seeds stand in while there are none."""
    max_rouge_l: float = Field(default=0.7, gt=0, le=1)
    """Reject a prompt whose ROUGE-L F with a seed or an accepted prompt is above this."""
    min_words: int = Field(default=4, ge=1)
    """Reject shorter prompts."""
    max_words: int = Field(default=150, ge=1)
    """Reject longer prompts."""
    forbidden_words: tuple[str, ...] = (
        "image",
        "images",
        "graph",
        "graphs",
        "picture",
        "pictures",
        "file",
        "files",
        "map",
        "maps",
        "draw",
        "plot",
        "go to",
    )
    """Reject prompts with one of these words: a text model cannot follow them."""
    mode: Literal["completion", "chat"] = "completion"
    """`completion`: the model goes on with a list, as in the paper; `chat`: it is asked for one more task."""
    template: str | None = None
    """Template of the request, in prompts/ or a path from the run's directory. Unset: the mode's own."""


class SampleSettings(SamplingSettings):
    """Answering each prompt N times."""

    candidates: int = Field(default=4, ge=2)
    """N: answers per prompt."""


class JudgeSettings(SamplingSettings):
    """Judging each answer 0–5 with the additive rubric (arXiv 2401.10020, section 2.2)."""

    max_tokens: int = Field(default=384, ge=1)
    """Longest judgement in tokens."""
    samples: int = Field(default=3, ge=1)
    """K: judgements per answer, averaged."""
    score: Literal["sampled", "expected", "direct"] = "sampled"
    """`sampled`: the number the judge wrote; `expected`: Σ s·P(s) at the place where it wrote it;
    `direct`: Σ s·P(s) without a justification, one judgement an answer."""
    guided: bool = False
    """Force the judgement's format (a sentence, then `Score: 0–5`), for models that cannot keep to it."""
    template: str = "judge_rubric.jinja"
    """Template of the rubric, in prompts/ or a path from the run's directory."""


class PairSettings(Section):
    """Drawing preference pairs from the scores."""

    rule: Literal["best_worst"] = "best_worst"
    """`best_worst`: highest mean score against lowest."""
    min_scores: int = Field(default=1, ge=1)
    """Readable judgements a candidate needs to take part."""
    min_margin: float = Field(default=0.0, ge=0)
    """Least difference of mean scores; a tie never makes a pair."""
    use_truncated: bool = True
    """Let answers that were cut off at max_tokens take part."""


class LoraSettings(Section):
    """Low-rank adapters instead of training every weight; merged into the checkpoint when done."""

    enabled: bool = False
    """Train adapters only."""
    r: int = Field(default=16, ge=1)
    """Rank."""
    alpha: int = Field(default=32, ge=1)
    """Scale."""
    dropout: float = Field(default=0.0, ge=0, lt=1)
    """Dropout on the adapters' input."""
    target_modules: str = "all-linear"
    """Which layers get adapters: `all-linear`, or names with commas between them."""


class TrainerSettings(Section):
    """What every training has: rates, batches, length, precision."""

    learning_rate: float = Field(default=1e-6, gt=0)
    """Peak learning rate."""
    final_learning_rate: float = Field(default=1e-7, ge=0)
    """Learning rate at the last step."""
    schedule: Literal["linear", "cosine", "constant"] = "cosine"
    """How the rate goes from peak to final."""
    warmup_ratio: float = Field(default=0.0, ge=0, lt=1)
    """Share of the steps spent rising to the peak."""
    batch_size: int = Field(default=16, ge=1)
    """Pairs or examples per optimiser step."""
    micro_batch_size: int = Field(default=4, ge=1)
    """Pairs or examples held in memory at once; gradients are accumulated up to batch_size."""
    epochs: int = Field(default=1, ge=1)
    """Passes over the data."""
    max_length: int = Field(default=2048, ge=64)
    """Longest prompt + response in tokens. What is longer is dropped before and counted, never cut."""
    dropout: float = Field(default=0.0, ge=0, lt=1)
    """Dropout in the model while training, where its architecture has any."""
    weight_decay: float = Field(default=0.0, ge=0)
    """AdamW weight decay."""
    max_grad_norm: float = Field(default=1.0, gt=0)
    """Gradient clipping."""
    bf16: bool | None = None
    """Compute in bfloat16. Unset: yes where the GPU supports it; on CPU, yes with AMX or AVX-512 bf16."""
    gradient_checkpointing: bool = False
    """Trade a third more compute for memory."""
    lora: LoraSettings = LoraSettings()
    """Adapter settings."""
    report_to: tuple[str, ...] = ()
    """Trackers passed on to the trainer: tensorboard, wandb, mlflow, trackio."""

    @model_validator(mode="after")
    def _rates_fall(self) -> Self:
        if self.final_learning_rate > self.learning_rate:
            raise ValueError(
                f"final_learning_rate {self.final_learning_rate} is above learning_rate {self.learning_rate}"
            )
        return self

    @model_validator(mode="after")
    def _micro_batch_divides_batch(self) -> Self:
        if self.batch_size % self.micro_batch_size:
            raise ValueError(
                f"batch_size {self.batch_size} is not a multiple of micro_batch_size {self.micro_batch_size}"
            )
        return self


class SftSettings(TrainerSettings):
    """SFT of M_0 in a child process with TRL; the loss is on the replies only."""

    learning_rate: float = Field(default=5.5e-6, gt=0)
    """Peak learning rate."""
    final_learning_rate: float = Field(default=1.1e-6, ge=0)
    """Learning rate at the last step."""


class BootstrapSettings(Section):
    """Iteration 0: M_0 → M_1 by SFT on instruction (IFT) and judging (EFT) examples (arXiv 2401.10020)."""

    mode: Literal["none", "sft"] = "none"
    """`none`: `model` is M_1 already, an instruct model that can judge; `sft`: it is M_0 and is trained."""
    eft: Literal["judged", "seeds", "none"] = "judged"
    """`judged`: the SFT baseline judges ranked replies; what agrees with people is kept, as in the paper.
    `seeds`: the seeds' own judgements, made from ranks where they bring none. `none`: no judging examples."""
    samples: int = Field(default=3, ge=1)
    """`judged`: tries the baseline has at a prompt's replies; the first that agrees with people is kept."""
    max_common_share: float = Field(default=0.4, gt=0, le=1)
    """`judged`: examples of one score are thinned out until they are at most this share."""
    max_ift: int = Field(default=3200, ge=0)
    """Most instruction examples."""
    max_eft: int = Field(default=1775, ge=0)
    """Most judging examples."""
    sft: SftSettings = SftSettings()
    """How to train."""


class IndependentJudgeSettings(Section):
    """A judge that is not of this run, for the same comparisons."""

    model: str = ""
    """Unset: none. A local model or hub id that the engine serves, or the model's name at `url`."""
    url: str = ""
    """Base URL of an OpenAI-compatible endpoint, without /v1; unset: the engine serves `model`."""
    api_key_env: str = ""
    """Environment variable that holds the endpoint's key."""


class EvaluationSettings(SamplingSettings):
    """Measuring every M_t on held-out seeds: as a judge against human ranks, and as an assistant."""

    enabled: bool = True
    """Measure each checkpoint."""
    prompts: int = Field(default=50, ge=0)
    """Held-out prompts that are answered and compared."""
    replies: int = Field(default=200, ge=0)
    """Held-out ranked replies that are judged, canaries aside; whole prompts, up to this many replies."""
    samples: int = Field(default=1, ge=1)
    """Judgements of each of them."""
    compare: bool = True
    """Compare answers with those of M_{t-1} and M_1, each pair in both orders."""
    template: str = "compare.jinja"
    """Template of a comparison, in prompts/ or a path from the run's directory."""
    independent: IndependentJudgeSettings = IndependentJudgeSettings()
    """A judge of another kind."""


class GateSettings(Section):
    """What must hold before M_{t+1} is trained; else the daemon warns or pauses."""

    enabled: bool = True
    """Look at all."""
    min_readable_share: float = Field(default=0.5, ge=0, le=1)
    """Share of the judgements that can be read."""
    max_one_score_share: float = Field(default=0.95, ge=0, le=1)
    """Share of the judgements that give the commonest score."""
    max_tie_share: float = Field(default=0.9, ge=0, le=1)
    """Share of the prompts whose candidates all have the same mean score."""
    min_spread: float = Field(default=0.1, ge=0, le=5)
    """Mean distance, within a prompt, between its best and its worst mean score."""
    max_length_correlation: float = Field(default=0.8, ge=-1, le=1)
    """Correlation of score and length within prompts."""
    max_length_growth: float = Field(default=2.5, gt=0)
    """Mean length of held-out answers against those of M_1."""
    judge_accuracy: bool = True
    """Pairwise accuracy on held-out ranks must not fall below the interval of M_1's."""
    min_items: int = Field(default=8, ge=1)
    """With fewer items than this a gate says nothing."""
    pause: tuple[Gate, ...] = (
        Gate.READABLE_SHARE,
        Gate.ONE_SCORE_SHARE,
        Gate.TIE_SHARE,
        Gate.JUDGE_ACCURACY,
    )
    """Gates that pause the daemon; the others warn."""


class TrainSettings(TrainerSettings):
    """DPO of M_t on its own pairs (arXiv 2305.18290), in a child process with TRL."""

    beta: float = Field(default=0.1, gt=0)
    """Strength of the pull to the reference model M_t."""
    min_pairs: int = Field(default=1, ge=1)
    """Fewer pairs than this stop the loop: M_t stays and nothing is trained."""


class DaemonSettings(Section):
    """How the daemon behaves around the loop."""

    grace_s: float = Field(default=60, gt=0)
    """On a stop, how long requests in flight may take before they are given up."""
    max_attempts: int = Field(default=3, ge=1)
    """Tries of one item (a prompt, a candidate) before it is marked as failed and passed over."""
    commit_rows: int = Field(default=64, ge=1)
    """Results are committed after this many rows …"""
    commit_seconds: float = Field(default=1.0, gt=0)
    """… or this long, whichever is first."""
    engine_restarts: int = Field(default=3, ge=0)
    """Restarts of an engine that dies without getting anything done, before the daemon gives up."""
    lease_timeout_s: float = Field(default=60, ge=5)
    """A daemon that has not shown a sign of life for this long may be replaced."""
    backup_every_minutes: float = Field(default=60, ge=0)
    """SQLite: copy the database into backups/ this often; 0 never."""
    backup_keep: int = Field(default=5, ge=1)
    """Backups kept."""
    run_window: str | None = None
    """Work only in this time of day, as "20:00-08:00" in the machine's time zone."""

    @field_validator("run_window")
    @classmethod
    def _window_reads(cls, value: str | None) -> str | None:
        if value is not None and not re.fullmatch(r"([01]\d|2[0-3]):[0-5]\d-([01]\d|2[0-3]):[0-5]\d", value):
            raise ValueError(f'{value!r} is not a window like "20:00-08:00"')
        return value


class Settings(Section):
    """Everything a run is made with."""

    name: str = Field(default="main", pattern=r"^[a-z0-9][a-z0-9_-]{0,62}$")
    """The run's name: lower-case letters, digits, - and _."""
    model: str = Field(default="", min_length=0)
    """M_0 (M_1 with bootstrap = "none"): a local directory, a hub id (org/name), or a GGUF in a Python
    package (pkg:name/file.gguf)."""
    iterations: int = Field(default=0, ge=0)
    """Stop when this many iterations are done; 0 goes on until stopped."""
    seed: int = 0
    """Seed of what the daemon itself draws: demonstrations, engine seeds, training order."""
    database: DatabaseSettings = DatabaseSettings()
    engine: EngineSettings = EngineSettings()
    seeds: SeedSettings = SeedSettings()
    self_instruct: SelfInstructSettings = SelfInstructSettings()
    sample: SampleSettings = SampleSettings()
    judge: JudgeSettings = JudgeSettings()
    pair: PairSettings = PairSettings()
    train: TrainSettings = TrainSettings()
    bootstrap: BootstrapSettings = BootstrapSettings()
    evaluation: EvaluationSettings = EvaluationSettings()
    gates: GateSettings = GateSettings()
    daemon: DaemonSettings = DaemonSettings()

    @field_validator("bootstrap", mode="before")
    @classmethod
    def _bootstrap_in_a_word(cls, value: Any) -> Any:
        """`bootstrap = "none"` is short for `bootstrap.mode = "none"`."""
        return {"mode": value} if isinstance(value, str) else value

    def digest(self) -> str:
        """sha256 of the canonical JSON: the key under which the settings are stored."""
        return hashlib.sha256(self.canonical_json().encode()).hexdigest()

    def canonical_json(self) -> str:
        """The resolved settings as JSON with sorted keys."""
        return json.dumps(self.model_dump(mode="json"), sort_keys=True, ensure_ascii=False)


def load_settings(
    directory: Path, overrides: Iterable[str] = (), environ: Mapping[str, str] = os.environ
) -> Settings:
    """The settings of the run in `directory`: its TOML, then `SELFREWARD_…`, then `--set a.b=c`.

    Raises BadInput with file, line and the nearest valid name for whatever cannot be used.
    """
    path = directory / SETTINGS_FILE
    if not path.is_file():
        raise BadInput(
            f"no {SETTINGS_FILE} in {directory}",
            "Make one with `selfreward init`, or name the run's directory with --dir.",
        )
    text = _read_text(path)
    sources = [
        *((f"environment variable {key}", *_split_env(key, value)) for key, value in _settings_env(environ)),
        *((f"--set {item}", *_split_override(item)) for item in overrides),
    ]
    return parse_settings(text, str(path), sources)


def parse_settings(
    text: str, name: str, overrides: Iterable[tuple[str, tuple[str, ...], Any]] = ()
) -> Settings:
    """Settings from TOML `text` called `name` in messages, with (source, key path, value) overrides."""
    try:
        data = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise BadInput(f"{name} is not valid TOML: {error}") from None
    origin: dict[tuple[str, ...], str] = {}
    for source, path, value in overrides:
        _assign(data, path, value, source)
        origin[path] = source
    try:
        return Settings.model_validate(data)
    except ValidationError as error:
        raise BadInput("\n".join(_explain(item, text, name, origin) for item in error.errors())) from None


def preset_names() -> list[str]:
    """The presets that ship, sorted."""
    return sorted(path.stem for path in presets_dir().glob("*.toml"))


def load_preset(name: str) -> dict[str, Any]:
    """What a preset departs in from the defaults, as nested tables."""
    path = presets_dir() / f"{name}.toml"
    if name not in preset_names():
        raise BadInput(f"there is no preset {name!r}", f"Presets: {', '.join(preset_names())}.")
    return tomllib.loads(path.read_text(encoding="utf-8"))


def render_settings(values: Mapping[str, Any], header: str) -> str:
    """A commented TOML file with every key: `values` where given, defaults elsewhere."""
    settings = Settings.model_validate(values)
    document = tomlkit.document()
    for line in header.splitlines():
        document.add(tomlkit.comment(line) if line else tomlkit.nl())
    document.add(tomlkit.nl())
    _render_section(settings, document)
    return tomlkit.dumps(document)


def _render_section(section: Section, table: Any) -> None:
    """Scalars first, then sub-tables: a TOML key after a table would belong to that table."""
    fields = type(section).model_fields
    for key, field in fields.items():
        value = getattr(section, key)
        if isinstance(value, Section):
            continue
        for line in (field.description or "").splitlines():
            table.add(tomlkit.comment(line))
        if value is None:
            table.add(tomlkit.comment(f"{key} = …"))
        else:
            table.add(key, list(value) if isinstance(value, tuple) else value)
    for key in fields:
        value = getattr(section, key)
        if isinstance(value, Section):
            child = tomlkit.table()
            doc = (type(value).__doc__ or "").strip()
            child.comment(doc.splitlines()[0]) if doc else None
            _render_section(value, child)
            table.add(tomlkit.nl())
            table.add(key, child)


def _read_text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except UnicodeDecodeError as error:
        raise BadInput(f"{path} is not UTF-8 text: byte {error.start} cannot be read") from None


def _settings_env(environ: Mapping[str, str]) -> Iterable[tuple[str, str]]:
    names = sorted(key for key in environ if key.startswith(ENV_PREFIX) and key not in ENV_NOT_SETTINGS)
    return [(key, environ[key]) for key in names]


def _split_env(key: str, value: str) -> tuple[tuple[str, ...], Any]:
    """SELFREWARD_TRAIN__BETA=0.2 is train.beta = 0.2."""
    path = tuple(part.lower() for part in key.removeprefix(ENV_PREFIX).split("__"))
    return path, _toml_value(value)


def _split_override(item: str) -> tuple[tuple[str, ...], Any]:
    key, equals, value = item.partition("=")
    if not equals or not key.strip():
        raise BadInput(
            f"--set {item}: expected key=value", "For example: --set train.beta=0.2 --set iterations=3"
        )
    return tuple(part.strip() for part in key.split(".")), _toml_value(value)


def _toml_value(text: str) -> Any:
    """A TOML value where the text is one, else the text itself: paths and names need no quotes."""
    try:
        return tomllib.loads(f"value = {text}")["value"]
    except tomllib.TOMLDecodeError:
        return text


def _assign(data: dict[str, Any], path: tuple[str, ...], value: Any, source: str) -> None:
    table = data
    for part in path[:-1]:
        table = table.setdefault(part, {})
        if not isinstance(table, dict):
            raise BadInput(f"{source}: {part!r} is a value, not a table of settings")
    table[path[-1]] = value


def _explain(item: Mapping[str, Any], text: str, name: str, origin: Mapping[tuple[str, ...], str]) -> str:
    path = tuple(str(part) for part in item["loc"])
    place = origin.get(path) or _place(text, name, path)
    dotted = ".".join(path)
    if item["type"] == "extra_forbidden":
        return f"{place}: there is no setting {dotted!r}{_nearest(path)}"
    return f"{place}: {dotted or 'settings'}: {item['msg']} (got {item['input']!r:.80})"


def _nearest(path: tuple[str, ...]) -> str:
    """The valid name closest to the last part of `path`, wherever in the settings it lives."""
    known = {dotted.rsplit(".", 1)[-1]: dotted for dotted in reversed(setting_names())}
    siblings = [n for n in setting_names() if n.rsplit(".", 1)[0] == ".".join(path[:-1]) or "." not in n]
    near = difflib.get_close_matches(".".join(path), siblings, n=1, cutoff=0.6)
    if near:
        return f"; did you mean {near[0]!r}?"
    elsewhere = difflib.get_close_matches(path[-1], known, n=1, cutoff=0.7)
    return f"; did you mean {known[elsewhere[0]]!r}?" if elsewhere else ""


def setting_names(section: type[BaseModel] = Settings, prefix: str = "") -> list[str]:
    """Every dotted key the settings accept."""
    names = []
    for key, field in section.model_fields.items():
        names.append(prefix + key)
        if isinstance(field.annotation, type) and issubclass(field.annotation, BaseModel):
            names += setting_names(field.annotation, f"{prefix}{key}.")
    return names


def _place(text: str, name: str, path: tuple[str, ...]) -> str:
    """`file line N` of a key in TOML text, as exact as plain tables allow."""
    table: tuple[str, ...] = ()
    for number, line in enumerate(text.splitlines(), 1):
        if header := re.match(r"\s*\[([^\[\]]+)\]", line):
            table = tuple(part.strip(" \"'") for part in header[1].split("."))
            if table == path:
                return f"{name} line {number}"
        elif key := re.match(r"\s*([\w.\"'-]+)\s*=", line):
            here = table + tuple(part.strip(" \"'") for part in key[1].split("."))
            if here == path[: len(here)] and len(here) > len(table):
                return f"{name} line {number}"
    return name
