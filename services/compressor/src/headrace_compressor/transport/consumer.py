"""What the compressor does with its commands."""

from typing import Any

from google.protobuf.message import Message
from headrace.events.v1 import evaluation_pb2, run_pb2
from headrace_runtime.runs.worker import Job

from headrace_compressor.transport import evaluation_converters
from headrace_compressor.transport.canary_converters import canary_values, to_judged
from headrace_compressor.transport.converters import to_assignment, to_fact

_CHILD = "headrace_compressor.child"


def _fact(command: run_pb2.CompressionRequested, result: dict[str, Any]) -> Message:
    return to_judged(command, result) if command.HasField("canary") else to_fact(command, result)


def compression(cpu_class: str, *, for_class: bool = False) -> Job[run_pb2.CompressionRequested]:
    """Return the compression of one version in a child process, which ends in ModelCompressed or RunFailed.

    A canary ends in CanaryJudged in its place.
    Measurements are of `cpu_class`. Commands that name a class are taken `for_class` only, and then those of this one.
    """
    wanted = cpu_class if for_class else ""
    return Job(
        command=run_pb2.CompressionRequested,
        kind=run_pb2.RUN_KIND_COMPRESSION,
        module=_CHILD,
        assignment=lambda command: to_assignment(command, cpu_class) | canary_values(command),
        fact=_fact,
        takes=lambda command: command.cpu_class == wanted,
    )


def evaluation() -> Job[evaluation_pb2.EvaluationRequested]:
    """Return the evaluation of one version on a segment, which ends in ModelEvaluated or RunFailed."""
    return Job(
        command=evaluation_pb2.EvaluationRequested,
        kind=run_pb2.RUN_KIND_EVALUATION,
        module=_CHILD,
        assignment=evaluation_converters.to_assignment,
        fact=evaluation_converters.to_fact,
    )
