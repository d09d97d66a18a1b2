"""Measures serving and streaming on a broker and a cache of its own, and prints tables.

python -m benchmarks [serving] [streaming] [--rounds N]
"""

from __future__ import annotations

import argparse
import tempfile
import time
from pathlib import Path

from headrace_local.launcher import Platform

from benchmarks import figures
from benchmarks.serving import comparison
from benchmarks.streaming import intake

PARTS = {"serving": comparison.run, "streaming": intake.run}


def main() -> None:
    """Run what is asked for, or everything."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description="Measure Headrace on this machine.")
    parser.add_argument("parts", nargs="*", help=f"what to measure: {', '.join(PARTS)}; everything when left out")
    parser.add_argument("--rounds", type=int, default=5, help="rounds of each measurement (default 5)")
    arguments = parser.parse_args()
    unknown = [part for part in arguments.parts if part not in PARTS]
    if unknown or arguments.rounds < 1:
        parser.error(f"expected some of {', '.join(PARTS)} and at least one round")
    began = time.monotonic()
    print(figures.machine(), flush=True)
    with (
        tempfile.TemporaryDirectory(prefix="headrace-bench-") as folder,
        Platform.on_free_ports(Path(folder) / "platform", services=()) as platform,
    ):
        for part in arguments.parts or PARTS:
            print(f"\n{PARTS[part](platform, Path(folder), arguments.rounds)}", flush=True)
    print(f"\nmeasured in {time.monotonic() - began:.0f} s")


if __name__ == "__main__":
    main()
