"""The command: runs the benchmarks that are named, or all of them, and prints what came out.

    python -m tests.bench [generation] [rouge] [store] [reading] [footprint] [demo] [--json]

A benchmark is not a test: the exit status is 0 even where a figure falls short. It is 1 where a
benchmark broke.
"""

import argparse
import importlib
import sys
import time
import traceback
from collections.abc import Sequence
from pathlib import Path

from tests.bench.figures import Figure, Options, Skipped, as_json, machine, show

NAMES = ("footprint", "rouge", "store", "reading", "generation", "demo")


def main(argv: Sequence[str] | None = None) -> int:
    """Run what `argv` asks for; returns the exit status."""
    arguments = _parser().parse_args(argv)
    options = Options(
        model=arguments.model,
        demo_dir=arguments.demo_dir,
        prompts=arguments.prompts,
        rounds=arguments.rounds,
        keep=arguments.keep,
        iterations=arguments.iterations,
    )
    about = machine()
    results, broken = [], False
    for name in arguments.names or NAMES:
        figures, failed = _measure(name, options)
        results.append((name, figures))
        broken = broken or failed
    if arguments.json:
        print(as_json(results, about))
    else:
        show(results, about)
    return 1 if broken else 0


def _measure(name: str, options: Options) -> tuple[list[Figure], bool]:
    """(figures, whether the benchmark broke). One that breaks does not keep the others from running."""
    began = time.monotonic()
    print(f"{name} …", file=sys.stderr, flush=True)
    try:
        figures: list[Figure] = importlib.import_module(f"tests.bench.{name}").measure(options)
    except Skipped as reason:
        return [Figure(name="skipped", reached="–", note=str(reason))], False
    except Exception as error:
        traceback.print_exc()
        return [Figure(name="broken", reached="–", reached_it=False, note=repr(error))], True
    print(f"{name}: {time.monotonic() - began:.0f} s", file=sys.stderr, flush=True)
    return figures, False


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m tests.bench", description="Measure what is promised.")
    parser.add_argument("names", nargs="*", metavar="NAME", type=_name, help=f"{', '.join(NAMES)} (all)")
    parser.add_argument("--json", action="store_true", help="print JSON, raw numbers included")
    parser.add_argument("--model", type=Path, help="generation: a converted model (default: the demo's)")
    parser.add_argument("--prompts", type=int, default=16, help="generation: accepted prompts (16)")
    parser.add_argument(
        "--rounds", type=int, default=2, help="generation: 1 is daemon, LLM; 2 is daemon, LLM, daemon (2)"
    )
    parser.add_argument("--keep", type=Path, help="generation: leave databases, logs and requests here")
    parser.add_argument(
        "--iterations",
        type=int,
        default=51,
        help="store: of 20,000 candidates each, the last half judged (51)",
    )
    parser.add_argument("--demo-dir", type=Path, default=Path("runs/demo"), help="demo: its directory")
    return parser


def _name(text: str) -> str:
    """A benchmark's name. (`choices` would refuse an empty list.)"""
    if text not in NAMES:
        raise argparse.ArgumentTypeError(f"there is no benchmark {text!r}: {', '.join(NAMES)}")
    return text


if __name__ == "__main__":
    sys.exit(main())
