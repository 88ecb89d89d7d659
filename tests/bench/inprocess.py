"""The other side of the generation benchmark: the same requests, put to vLLM's `LLM` class by hand.

    python -m tests.bench.inprocess job.json result.json

The job holds the command line of the daemon's server, from which the same engine arguments are read,
and the requests in order of stages. All requests of a stage go into one call, as one would do it
without a daemon: `LLM` then keeps its batch as full as it can.
"""

import json
import sys
import time
from dataclasses import asdict
from pathlib import Path
from typing import Any

from vllm import LLM, SamplingParams
from vllm.engine.arg_utils import EngineArgs
from vllm.sampling_params import StructuredOutputsParams
from vllm.utils.argparse_utils import FlexibleArgumentParser

from tests.bench.quiet import Meter


def main(job_path: str, result_path: str) -> None:
    """Run the job and write {"stages": [{"stage", "requests", "tokens", "seconds"}, …], "processors"}."""
    job = json.loads(Path(job_path).read_text(encoding="utf-8"))
    engine = LLM(**vars(engine_arguments(job["argv"])))
    meter = Meter()
    stages = [_run(engine, stage, requests) for stage, requests in job["stages"].items()]
    result = {"stages": stages, "processors": asdict(meter.read())}
    Path(result_path).write_text(json.dumps(result), encoding="utf-8")


def engine_arguments(argv: list[str]) -> EngineArgs:
    """The engine's part of the command line of an API server; the server's own flags are left out."""
    parser: Any = EngineArgs.add_cli_args(FlexibleArgumentParser())  # type: ignore[no-untyped-call]
    known, _ = parser.parse_known_args(argv[argv.index("--model") :])
    arguments: EngineArgs = EngineArgs.from_cli_args(known)
    return arguments


def _run(engine: LLM, stage: str, requests: list[dict[str, Any]]) -> dict[str, Any]:
    """One stage in one call."""
    parameters = [_parameters(request) for request in requests]
    began = time.perf_counter()
    if "messages" in requests[0]:
        outputs = engine.chat([request["messages"] for request in requests], parameters, use_tqdm=False)
    else:
        outputs = engine.generate([request["prompt"] for request in requests], parameters, use_tqdm=False)
    seconds = time.perf_counter() - began
    tokens = sum(len(choice.token_ids) for output in outputs for choice in output.outputs)
    return {"stage": stage, "requests": len(requests), "tokens": tokens, "seconds": seconds}


def _parameters(request: dict[str, Any]) -> SamplingParams:
    """As the API server makes them from the daemon's request: `logprobs` of the drawn token only."""
    regex = request.get("regex")
    return SamplingParams(
        n=request["n"],
        temperature=request["temperature"],
        top_p=request["top_p"],
        top_k=request["top_k"],
        max_tokens=request["max_tokens"],
        stop=request["stop"],
        logprobs=0,
        structured_outputs=StructuredOutputsParams(regex=regex) if regex else None,
    )


if __name__ == "__main__":
    main(*sys.argv[1:])
