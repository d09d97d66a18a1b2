"""Run inference until it is told to stop."""

from headrace_runtime.process.service import main

from headrace_inference.settings import Settings
from headrace_inference.wiring import NAME, build

if __name__ == "__main__":
    raise SystemExit(main(NAME, Settings, build))
