"""Runs the compressor until it is told to stop."""

from headrace_runtime.process.service import main

from headrace_compressor.settings import Settings
from headrace_compressor.wiring import NAME, build

if __name__ == "__main__":
    raise SystemExit(main(NAME, Settings, build))
