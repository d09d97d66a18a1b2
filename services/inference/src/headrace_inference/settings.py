"""Settings of inference."""

from __future__ import annotations

from pathlib import Path

from headrace_runtime.settings import GrpcSettings, RegistrySettings, address
from pydantic import Field, field_validator


class Settings(RegistrySettings, GrpcSettings):
    """What inference is told, beside what every service is."""

    trace_sample_ratio: float = Field(
        0.05,
        ge=0.0,
        le=1.0,
        description="Share of calls without a trace of their own that are recorded; a caller's decision is kept.",
    )
    listen_address: str = Field("127.0.0.1:8001", description="Address of the gRPC server, host:port.")
    rest_address: str = Field(
        "",
        description="Address, host:port, of the Open Inference Protocol's REST, with the TLS files and the limits of "
        "the gRPC server; empty for none. Needs the extra rest.",
    )
    max_message_bytes: int = Field(
        8 * 1024 * 1024,
        ge=1024,
        description="Largest request, in bytes; a larger one is RESOURCE_EXHAUSTED, as is one that is larger than "
        "the greatest number of rows of its model.",
    )
    max_json_bytes: int = Field(
        1024 * 1024,
        ge=1024,
        description="Most JSON in a request over REST, in bytes. Above 16 KiB a process beside reads it, one body "
        "after the other. What is larger comes as binary contents, which cost nothing.",
    )
    max_rows: int = Field(4096, ge=1, description="Most rows in one call.")
    compute_threads: int = Field(2, ge=1, description="Threads that compute models slower than 1 ms a row.")
    max_wait_s: float = Field(
        10.0,
        gt=0,
        description="Longest predicted wait for these threads, in seconds, at which a call is taken; a call with a "
        "deadline is taken while the wait leaves it enough of that. Others are RESOURCE_EXHAUSTED.",
    )
    max_waiting: int = Field(
        10_000, ge=1, description="Calls that may wait for these threads, whatever their deadlines."
    )
    max_waiting_bytes: int = Field(
        256 * 1024 * 1024, ge=1024, description="What the calls that wait for these threads may hold, in bytes."
    )
    work_dir: Path = Field(
        Path(".headrace/inference"), description="Folder for graphs fetched from the object store; may be emptied."
    )
    redis_url: str = Field(
        "redis://127.0.0.1:6379/0", description="Redis or Valkey for hot predictions; empty for none."
    )
    redis_timeout_ms: float = Field(
        20.0, gt=0, description="Milliseconds that a connection, a read or a write may take; then the model is asked."
    )
    cache_ttl_s: float = Field(
        3600.0, gt=0, description="Seconds that a hot prediction is kept, unless its release says otherwise."
    )
    recent_bytes: int = Field(
        16 * 1024 * 1024,
        ge=0,
        description="What answers from Redis may take in memory for the two seconds in which requests of the same "
        "bytes get them without Redis; 0: none are kept there.",
    )
    publish_predictions: bool = Field(
        True, description="Whether each answered call becomes an event; without, no prediction can be looked up later."
    )
    resident_versions: int = Field(
        2, ge=1, description="Versions of a model that stay in memory: what is served, then what was served last."
    )
    load_timeout_s: float = Field(
        60.0,
        gt=0,
        description="Seconds that a released graph may take to load and to answer once, in a process of its own; "
        "over it, the older version stays.",
    )
    run_timeout_s: float = Field(
        60.0, gt=0, description="Seconds that a model may compute for one call; over it, DEADLINE_EXCEEDED."
    )
    records_timeout_s: float = Field(
        5.0,
        gt=0,
        description="Seconds that reading the records of one call may take (PredictRecords); over it, "
        "DEADLINE_EXCEEDED. One process reads them, one call after the other. Needs the extra records.",
    )
    score_streams: bool = Field(
        True,
        description="Whether records of topics are answered here, of pipelines with `serve.scoring`; their partitions "
        "are shared by the replicas that do. Needs the extra records.",
    )
    max_prompt_tokens: int = Field(
        4096, ge=1, description="Most tokens of a prompt of a model of language; with more, INVALID_ARGUMENT."
    )
    max_answer_tokens: int = Field(
        1024, ge=1, description="Most tokens of its answer that a call may ask for; with more, INVALID_ARGUMENT."
    )
    answer_timeout_s: float = Field(
        120.0,
        gt=0,
        description="Seconds that an answer of a model of language may take; over it, DEADLINE_EXCEEDED. So long at "
        "most a version that was replaced stays for the answers that it had begun.",
    )
    max_answers: int = Field(
        64, ge=1, description="Answers that the engine of one model of language makes at once; others wait."
    )
    max_answers_waiting: int = Field(
        256, ge=1, description="Answers that may wait for it; more calls are RESOURCE_EXHAUSTED."
    )
    keys_and_values_bytes: int = Field(
        512 * 1024 * 1024,
        ge=16 * 1024 * 1024,
        description="Memory of such an engine for the keys and values of all its answers, in bytes.",
    )
    answer_threads: int = Field(
        0, ge=0, description="Threads that such an engine computes with; 0 is one for each core of the machine."
    )
    upstream_hosts: str = Field(
        "",
        description="Servers of models of language that pipelines may name as `serve.engine.urls`, each host:port, "
        "separated by commas; empty for none.",
    )
    upstream_keys_dir: Path | None = Field(
        None,
        description="Folder with a file for each key of these servers, by the name that `serve.engine.key` has. "
        "Read for each request, so that a key may be replaced.",
    )
    upstream_adapters_dir: Path | None = Field(
        None,
        description="Folder for adapters that these servers load; they see it at the same path, and all replicas "
        "share it.",
    )
    drain_s: float = Field(
        2.0,
        ge=0,
        description="Seconds that calls are still answered at the end, after health turned to not serving.",
    )
    cpu_class: str = Field(
        "",
        description="Class of the processor, such as avx2, by which a release's variants are looked up: one that was "
        "not measured is served fp32. Empty: the class of this machine. A wrong one serves kernels that were not "
        "measured here, with answers that may differ.",
    )
    max_connection_age_s: float = Field(
        30.0,
        ge=0,
        description="Seconds after which clients are asked to connect anew; a replica that stops waits so long for "
        "callers that do not watch health. 0: never, and without that wait.",
    )

    @field_validator("upstream_hosts")
    @classmethod
    def _are_addresses(cls, value: str) -> str:
        for each in filter(None, value.split(",")):
            address(each.strip())
        return value

    @field_validator("rest_address")
    @classmethod
    def _answers_rest_somewhere(cls, value: str) -> str:
        return value if not value else address(value)
