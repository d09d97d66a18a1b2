"""Measures serving, generation, streaming, training, methods of compression and an idle platform; prints tables.

A broker and a cache of its own serve it.

python -m benchmarks [serving] [hits] [holds] [rest] [generation] [lora] [streaming] [cleaning] [instances]
    [pushing] [texts] [training] [streamed] [compression] [processes] [idle] [--rounds N] [--results FILE]
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from pathlib import Path

from headrace_local.launcher import Platform

from benchmarks import figures
from benchmarks.compression import comparison as compression
from benchmarks.generation import comparison as generation
from benchmarks.generation import lora
from benchmarks.idle import comparison as idle
from benchmarks.serving import comparison as serving
from benchmarks.serving import hits, holds, rest
from benchmarks.streaming import cleaning, instances, pushing, texts
from benchmarks.streaming import comparison as streaming
from benchmarks.training import comparison as training
from benchmarks.training import processes, streamed

PARTS = {
    "serving": serving.run,
    "hits": hits.run,
    "holds": holds.run,
    "rest": rest.run,
    "generation": generation.run,
    "lora": lora.run,
    "streaming": streaming.run,
    "cleaning": cleaning.run,
    "instances": instances.run,
    "pushing": pushing.run,
    "texts": texts.run,
    "training": training.run,
    "streamed": streamed.run_rounds,
    "processes": processes.run,
    "compression": compression.run,
    "idle": idle.run,
}


def main() -> None:
    """Run what is asked for, or everything."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description="Measure Headrace on this machine.")
    parser.add_argument("parts", nargs="*", help=f"what to measure: {', '.join(PARTS)}; everything when left out")
    parser.add_argument("--rounds", type=int, default=5, help="rounds of each measurement (default 5)")
    parser.add_argument("--results", type=Path, help="keep every round's figures in this file, as JSON")
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
        raw = {"machine": figures.machine()}
        for part in arguments.parts or PARTS:
            measured = PARTS[part](platform, Path(folder), arguments.rounds)
            raw[part] = measured.raw
            print(f"\n{measured.tables}", flush=True)
    if arguments.results:
        arguments.results.write_text(json.dumps(raw, indent=1) + "\n")
    print(f"\nmeasured in {time.monotonic() - began:.0f} s")


if __name__ == "__main__":
    main()
