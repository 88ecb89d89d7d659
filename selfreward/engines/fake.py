"""The fake engine: a real server process with a real HTTP server and scripted, seeded replies.

For tests of everything around the model. `engine.extra_args` are flags of `fake_server` (latency,
failures, death); they make it behave badly on purpose.
"""

import secrets
import sys
from pathlib import Path

from selfreward.config import EngineSettings
from selfreward.engines.server import Launch, flags

DEFAULT_MAX_MODEL_LEN = 8192


def prepare(checkpoint: Path, settings: EngineSettings, port: int, seed: int) -> Launch:
    """The command that serves scripted replies. `checkpoint` is not read."""
    model = f"selfreward-{secrets.token_hex(4)}"
    argv = [sys.executable, "-m", "selfreward.engines.fake_server", "--port", str(port)]
    argv += ["--seed", str(seed), "--served-model-name", model]
    argv += ["--max-model-len", str(settings.max_model_len or DEFAULT_MAX_MODEL_LEN)]
    argv += ["--max-num-seqs", str(settings.max_num_seqs)]
    argv += flags(settings.extra_args)
    return Launch(argv=tuple(argv), env={}, model=model, description="fake engine", advise=_advise)


def _advise(log: str) -> str:
    return "It does what engine.extra_args say: see python -m selfreward.engines.fake_server -h."
