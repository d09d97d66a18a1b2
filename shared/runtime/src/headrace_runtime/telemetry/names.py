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
SPAN_DECIDE = "decide"
SPAN_BACKFILL = "backfill"
SPAN_HOLD = "hold"
SPAN_FORGET = "forget"
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
DECISION = "headrace.decision"
VARIANT = "headrace.variant"
MODEL = "headrace.model"
PREDICTION_ID = "headrace.prediction.id"
ROWS = "headrace.rows"
REJECTED = "headrace.rows.rejected"
DEAD_LETTER = "headrace.dead_letter.id"
SOURCES = "headrace.sources"
CACHED = "headrace.cached"

# What a model of language does, by the conventions for generative AI:
# https://github.com/open-telemetry/semantic-conventions-genai
SPAN_TEXT_COMPLETION = "text_completion"
GEN_AI_OPERATION = "gen_ai.operation.name"
GEN_AI_PROVIDER = "gen_ai.provider.name"
GEN_AI_MODEL = "gen_ai.request.model"
GEN_AI_MAX_TOKENS = "gen_ai.request.max_tokens"
GEN_AI_TEMPERATURE = "gen_ai.request.temperature"
GEN_AI_TOP_P = "gen_ai.request.top_p"
GEN_AI_TOP_K = "gen_ai.request.top_k"
GEN_AI_SEED = "gen_ai.request.seed"
GEN_AI_STOP = "gen_ai.request.stop_sequences"
GEN_AI_STREAM = "gen_ai.request.stream"
GEN_AI_FREQUENCY_PENALTY = "gen_ai.request.frequency_penalty"
GEN_AI_PRESENCE_PENALTY = "gen_ai.request.presence_penalty"
GEN_AI_INPUT_TOKENS = "gen_ai.usage.input_tokens"
GEN_AI_OUTPUT_TOKENS = "gen_ai.usage.output_tokens"
GEN_AI_FINISH_REASONS = "gen_ai.response.finish_reasons"
GEN_AI_TIME_TO_FIRST_CHUNK = "gen_ai.response.time_to_first_chunk"
