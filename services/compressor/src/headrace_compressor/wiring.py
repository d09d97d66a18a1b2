"""Puts the compressor together."""

from headrace_engines.processors import own_class
from headrace_runtime.kafka import EventProducer
from headrace_runtime.process.service import Service
from headrace_runtime.runs.worker import RunWorker

from headrace_compressor.settings import Settings
from headrace_compressor.transport.consumer import compression, evaluation

NAME = "compressor"


def build(settings: Settings) -> Service:
    """Return the service: a worker that does one command at a time, and the producer of its progress."""
    events = EventProducer(settings, source=NAME)
    cpu_class = settings.cpu_class or own_class()
    # The worker's name is its consumer group: each class reads all commands, and takes its own.
    name = f"{NAME}.{cpu_class}" if settings.for_class else NAME
    # One that is there for a class leaves the rest to the others.
    more = () if settings.for_class else (evaluation(),)
    worker = RunWorker(name, compression(cpu_class, for_class=settings.for_class), settings, events, *more)
    return Service(NAME, [events, worker])
