"""The command line of the benchmark."""

from __future__ import annotations

import argparse
import json
from pathlib import Path

from benchmarks.advice.comparison import measure, table
from benchmarks.advice.tables import TABLES


def main() -> None:
    """Measure the tables that are asked for, or show what files of earlier calls hold."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.advice", description="Advice beside a search.")
    parser.add_argument("--tables", nargs="*", default=list(TABLES), help="names of tables; all when left out")
    parser.add_argument("--salts", type=int, default=3, help="ways in which rows are divided (default 3)")
    parser.add_argument("--trials", type=int, default=20, help="trials of the search (default 20), 0 for none")
    parser.add_argument("--results", type=Path, help="file of what is found, as JSON; what is in it already is kept")
    arguments = parser.parse_args()
    if unknown := set(arguments.tables) - set(TABLES):
        parser.error(f"expected some of {', '.join(TABLES)}, got {', '.join(sorted(unknown))}")
    results: Path | None = arguments.results
    found = json.loads(results.read_text()) if results and results.exists() else {}
    found |= measure(arguments.tables, arguments.salts, arguments.trials)
    if results:
        results.write_text(json.dumps(found, indent=1) + "\n")
    if arguments.trials:
        print(table({name: found[name] for name in TABLES if name in found}))


main()
