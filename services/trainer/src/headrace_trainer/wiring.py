"""Puts the trainer together."""

from functools import partial

from headrace.events.v1 import run_pb2
from headrace_runtime.kafka import EventProducer
from headrace_runtime.object_store import ObjectStore
from headrace_runtime.process.service import Service
from headrace_runtime.runs.worker import Job, RunWorker

from headrace_trainer.adapters.api_server import JobSetApi
from headrace_trainer.adapters.pods import PodMaker
from headrace_trainer.core.pods import Spread
from headrace_trainer.settings import Settings, read_template
from headrace_trainer.transport.consumer import training

NAME = "trainer"


def build(settings: Settings) -> Service:
    """Return the service: a worker that runs one training at a time, and the producer of its progress."""
    events = EventProducer(settings, source=NAME)
    return Service(NAME, [events, RunWorker(NAME, _job(settings), settings, events)])


def _job(settings: Settings) -> Job[run_pb2.TrainingRequested]:
    job = partial(training, settings.checkpoint_s, settings.packages, settings.prices)
    if settings.pods_template is None:
        return job()
    owner = (settings.instance, settings.pods_owner) if settings.pods_owner else None
    api, store = JobSetApi.of_cluster(settings.pods_account), ObjectStore(settings.store_url)
    maker = PodMaker(api, store, read_template(settings.pods_template), settings.pods_patience_s, owner)
    return job(Spread(settings.pods_from, settings.pods_processes), maker.begin)
