"""Runs the trainer until it is told to stop."""

from headrace_runtime.process.service import main

from headrace_trainer.settings import Settings
from headrace_trainer.wiring import NAME, build

if __name__ == "__main__":
    raise SystemExit(main(NAME, Settings, build))
