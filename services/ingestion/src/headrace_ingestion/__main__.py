"""Runs the ingestion service until it is told to stop."""

from headrace_runtime.process.service import main

from headrace_ingestion.settings import Settings
from headrace_ingestion.wiring import NAME, build

if __name__ == "__main__":
    raise SystemExit(main(NAME, Settings, build))
