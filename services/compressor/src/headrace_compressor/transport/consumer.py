"""What the compressor does with its command."""

from headrace.events.v1 import run_pb2
from headrace_runtime.runs.worker import Job

from headrace_compressor.transport.converters import to_assignment, to_fact

COMPRESSION: Job[run_pb2.CompressionRequested] = Job(
    command=run_pb2.CompressionRequested,
    kind=run_pb2.RUN_KIND_COMPRESSION,
    module="headrace_compressor.child",
    assignment=to_assignment,
    fact=to_fact,
)
"""Compression of one version in a child process: ends in ModelCompressed or RunFailed."""
