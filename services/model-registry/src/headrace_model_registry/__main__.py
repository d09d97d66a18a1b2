"""Runs the model registry until it is told to stop."""

from headrace_runtime.service import main

from headrace_model_registry.settings import Settings
from headrace_model_registry.wiring import build

if __name__ == "__main__":
    raise SystemExit(main("model-registry", Settings, build))
