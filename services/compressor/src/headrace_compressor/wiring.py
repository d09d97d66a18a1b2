"""Puts the compressor together."""

from headrace_runtime.kafka import EventProducer
from headrace_runtime.process.service import Service
from headrace_runtime.runs.worker import RunWorker

from headrace_compressor.settings import Settings
from headrace_compressor.transport.consumer import COMPRESSION

NAME = "compressor"


def build(settings: Settings) -> Service:
    """Return the service: a worker that runs one compression at a time, and the producer of its progress."""
    events = EventProducer(settings, source=NAME)
    worker = RunWorker(NAME, COMPRESSION, settings, events)
    return Service(NAME, [events, worker])
