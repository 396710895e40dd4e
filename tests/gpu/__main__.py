"""The command line; see the package."""

from __future__ import annotations

import argparse
from pathlib import Path

from tests.gpu import correct, speed, studies, training
from tests.gpu.steps import Steps

CALLS = {"correct": correct.run, "speed": speed.run, "training": training.run}


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.gpu", description="What only a GPU can tell.")
    parser.add_argument("call", choices=[*CALLS, *studies.STUDIES])
    parser.add_argument("out", type=Path, help="folder that results are added to")
    parser.add_argument("--device", default="cuda:0")
    parser.add_argument("--minutes", type=float, default=9.0, help="no step begins after so many (default: 9)")
    parser.add_argument("--data-dir", type=Path, help="folder with CIFAR-10 and the human labels")
    parser.add_argument("--small", action="store_true", help="a try of the call itself, which measures nothing")
    options = parser.parse_args()
    steps = Steps(options.out, options.call, options.device, options.minutes)
    if options.call in CALLS:
        CALLS[options.call](steps, options.small)
    else:
        studies.run(steps, options.small, options.call, options.data_dir)
    return steps.end()


if __name__ == "__main__":
    raise SystemExit(main())
