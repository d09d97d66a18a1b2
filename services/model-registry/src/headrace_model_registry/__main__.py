"""Runs the model registry until it is told to stop."""

from headrace_runtime.process.service import main

from headrace_model_registry.settings import Settings
from headrace_model_registry.wiring import NAME, build

if __name__ == "__main__":
    raise SystemExit(main(NAME, Settings, build))
