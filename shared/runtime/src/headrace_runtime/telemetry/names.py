"""Names of spans, attributes and metrics: a contract with dashboards and with `headrace trace`.

Attribute names follow the OpenTelemetry semantic conventions for messaging and RPC; Headrace's own begin with
`headrace.`.
"""

from __future__ import annotations

# Spans: "<operation> <destination>".
SPAN_PROCESS = "process"
SPAN_TRANSACTION = "transaction"
SPAN_COMMIT = "commit"
SPAN_RUN = "run"
SPAN_FREEZE = "freeze"
SPAN_BACKFILL = "backfill"
SPAN_READ = "read"
SPAN_REPLAY = "replay"
SPAN_MANIFEST = "manifest"
SPAN_INFER = "infer"
SPAN_CACHE_GET = "cache get"
SPAN_LOAD = "load"

MESSAGING_SYSTEM = "messaging.system"
MESSAGING_OPERATION = "messaging.operation.name"
MESSAGING_DESTINATION = "messaging.destination.name"
MESSAGING_PARTITION = "messaging.destination.partition.id"
MESSAGING_OFFSET = "messaging.kafka.offset"
MESSAGING_GROUP = "messaging.consumer.group.name"
MESSAGING_BATCH_COUNT = "messaging.batch.message_count"

RPC_SYSTEM = "rpc.system"
RPC_SERVICE = "rpc.service"
RPC_METHOD = "rpc.method"
RPC_STATUS = "rpc.grpc.status_code"

PIPELINE = "headrace.pipeline"
DATASET_ID = "headrace.dataset.id"
RUN_ID = "headrace.run.id"
RUN_ATTEMPT = "headrace.run.attempt"
EVENT_STEP = "step"
STEP = "headrace.run.step"
VERSION_ID = "headrace.version.id"
VARIANT = "headrace.variant"
MODEL = "headrace.model"
PREDICTION_ID = "headrace.prediction.id"
ROWS = "headrace.rows"
REJECTED = "headrace.rows.rejected"
DEAD_LETTER = "headrace.dead_letter.id"
SOURCES = "headrace.sources"
CACHED = "headrace.cached"
