"""What calls, releases and events say of rollouts."""

from __future__ import annotations

from dataclasses import asdict

from google.protobuf.message import DecodeError
from headrace import open_inference as oip
from headrace.events.v1 import model_pb2, rollout_pb2

from headrace_inference.core.releases import Stage
from headrace_inference.core.rollout import Tally

ROLLOUT_KEY = "rollout_key"
"""The parameter of a call whose text decides whether a candidate answers it."""
_STAGES = {rollout_pb2.ROLLOUT_STAGE_SHADOW: Stage.SHADOW, rollout_pb2.ROLLOUT_STAGE_CANARY: Stage.CANARY}


def rollout_key(request: bytes) -> bytes:
    """Return what of a serialised ModelInferRequest decides whether a candidate answers it.

    That is its parameter `rollout_key`, else its id, else all of it, so that who repeats a call repeats its way.
    """
    try:
        message = oip.ModelInferRequest.FromString(request)
    except DecodeError:
        return request  # whoever answers says what is wrong with it
    own = message.parameters[ROLLOUT_KEY].string_param if ROLLOUT_KEY in message.parameters else ""
    text = own or message.id
    return text.encode() if text else request


def rollout_of(message: model_pb2.ModelReleased) -> tuple[str, Stage, int]:
    """Return the pipeline of a release, and the stage and share that it is tried with."""
    return message.pipeline, _STAGES.get(message.stage, Stage.NONE), message.share


def to_observed(tally: Tally, replica: str) -> rollout_pb2.RolloutObserved:
    """Return the event of what a replica has counted of a candidate."""
    release = tally.release
    return rollout_pb2.RolloutObserved(
        pipeline=release.pipeline,
        model=release.model,
        epoch=release.epoch,
        replica=replica,
        counts=rollout_pb2.RolloutCounts(**asdict(tally.counts())),
        fault=tally.fault,
    )
