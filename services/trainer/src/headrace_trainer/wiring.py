"""Puts the trainer together."""

from headrace_runtime.kafka import EventProducer
from headrace_runtime.process.service import Service
from headrace_runtime.runs.worker import RunWorker

from headrace_trainer.settings import Settings
from headrace_trainer.transport.consumer import training

NAME = "trainer"


def build(settings: Settings) -> Service:
    """Return the service: a worker that runs one training at a time, and the producer of its progress."""
    events = EventProducer(settings, source=NAME)
    worker = RunWorker(NAME, training(settings.checkpoint_s, settings.packages, settings.prices), settings, events)
    return Service(NAME, [events, worker])
