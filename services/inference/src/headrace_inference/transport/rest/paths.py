"""The paths of REST: one table, of which the server and its OpenAPI page are made."""

from __future__ import annotations

from typing import Final, NamedTuple

_MODEL: Final = "/v2/models/{model}"
_VERSION: Final = f"{_MODEL}/versions/{{version}}"


class Path(NamedTuple):
    """One path. `body` and `answer` name schemas of `schemas.py`; empty for none."""

    method: str
    path: str
    endpoint: str
    """The name of what answers it."""
    told: str
    """What it is for."""
    answer: str = ""
    body: str = ""
    optional_body: bool = False
    binary: bool = False
    """Whether bodies may go on behind their JSON (the binary tensor data extension)."""
    streams: bool = False
    """Whether the answer may come as server-sent events."""

    @property
    def openai(self) -> bool:
        """Whether it is one of OpenAI's, whose errors have a shape of their own."""
        return self.path.startswith(OPENAI)


OPENAI: Final = "/v1/"


def _of_model(path: str, version: str) -> tuple[Path, ...]:
    """Return the paths below a model; a path is that of its first match, so the longer ones come first."""
    return (
        Path("POST", f"{path}/infer", "infer", f"Predict with {version}", "InferAnswer", "InferCall", binary=True),
        Path("POST", f"{path}/records", "records", f"Predict records with {version}", "RecordAnswers", "Records"),
        Path("GET", f"{path}/ready", "model_ready", f"Whether {version} can answer", "ModelReady"),
        Path("GET", f"{path}/stats", "statistics", f"What {version} did since the start", "Statistics"),
        Path("GET", f"{path}/config", "config", f"Configuration of {version}, in Triton's words", "Config"),
        Path("GET", path, "model", f"Inputs and outputs of {version}", "ModelMetadata"),
    )


PATHS: Final = (
    Path("GET", "/v2", "server", "What the server is", "ServerMetadata"),
    Path("GET", "/v2/health/live", "live", "Whether the process lives", "Live"),
    Path("GET", "/v2/health/ready", "ready", "Whether everything that was released is loaded", "Ready"),
    Path("POST", "/v2/repository/index", "index", "The models and their states", "Index", "IndexCall", True),
    Path("GET", "/v2/models/stats", "statistics", "What every version did since the start", "Statistics"),
    *_of_model(_MODEL, "a model's champion"),
    *_of_model(_VERSION, "a version: its ordinal, alias or digest"),
    Path("GET", "/v1/models", "list_models", "The models that OpenAI's paths answer with", "OpenAiModels"),
    Path("GET", "/v1/models/{model}", "show_model", "One of these models", "OpenAiModel"),
    Path("POST", "/v1/embeddings", "embeddings", "The embeddings of texts", "Embeddings", "EmbeddingsCall"),
    Path("POST", "/v1/chat/completions", "chat", "The answer to a conversation", "Chat", "ChatCall", streams=True),
    Path("POST", "/v1/completions", "complete", "What follows a text", "Completion", "CompletionCall", streams=True),
    Path("GET", "/openapi.json", "openapi", "This description, OpenAPI 3.1", "OpenApi"),
    Path("GET", "/docs", "docs", "This description as a page"),
)
"""Every path that is answered."""
