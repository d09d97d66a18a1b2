"""What the compressor is told."""

from headrace_runtime.settings import WorkerSettings


class Settings(WorkerSettings):
    """Settings of the compressor."""
