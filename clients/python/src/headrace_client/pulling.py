"""The files of a version, as other programs read them: brought from the object store into a folder."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Final

from headrace.registry.v1 import registry_service_pb2 as messages

from headrace_client.errors import ExtraMissing, InputInvalid, NotFound, StoreFailed
from headrace_client.registry import RegistryClient
from headrace_client.report.sources import named, store_of

if TYPE_CHECKING:
    from headrace.events.v1.artifact_pb2 import Artifact

ADAPTER_FILE: Final = "adapter_model.safetensors"
CONFIG_FILE: Final = "adapter_config.json"
BASE_FILE: Final = "base/model.gguf"
"""Names that PEFT and vLLM look for, and that of the model that transformers reads.

It has a folder of its own: where a configuration of an adapter lies beside a model, transformers looks for the model
where that says.
"""


def pulled(registry: RegistryClient, name: str, variant: str, folder: Path) -> list[Path]:
    """Bring a version's variant into an empty folder; return its files, the model first.

    A graph is `model.onnx`, with the files of its weights beside it; a model of language `model.gguf`; an adapter is
    what PEFT loads, with the GGUF file that it is a difference of. `variant` is empty for the one that is released, or
    for the version as it was trained where none is. Raises NotFound, InputInvalid for a folder that is not empty,
    StoreFailed and ExtraMissing.
    """
    found = named(registry, name)
    if not isinstance(found, messages.Version):
        raise NotFound(f"there is no version '{name}': that is a dataset")
    graph = _graph(registry, found, variant)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        if any(folder.iterdir()):
            raise InputInvalid(f"{folder} is not empty: give another folder")
        with store_of(graph.uri, "pull") as store:
            if not graph.beside_bytes:
                store.get_file(graph, folder / "model")
                return [_called(folder / "model")]
            from headrace_engines import beside
            from headrace_engines.errors import NotAModel

            try:
                path = beside.get(graph.beside_bytes, graph, store, folder)
            except NotAModel as error:
                raise StoreFailed(f"{graph.digest} is no model: {error}") from error
            if not isinstance(path, Path):
                raise StoreFailed(f"{graph.digest}: expected files beside it, got none")
            model = _called(path)
            return [model, *sorted(each for each in folder.rglob("*") if each.is_file() and each != model)]
    except OSError as error:
        raise InputInvalid(f"{folder} cannot be written: {error}") from error


def _graph(registry: RegistryClient, version: messages.Version, variant: str) -> Artifact:
    trained = version.trained
    if not variant:
        every = registry.releases(trained.model)
        released = [each.released for each in every if each.released.version_id == trained.version_id]
        return released[-1].graph if released else trained.graph
    graphs = {each.name: each.graph for each in version.variants}
    if variant not in graphs:
        known = ", ".join(graphs) or "none yet"
        raise NotFound(f"version {version.ordinal} of {trained.model} has no variant '{variant}', only {known}")
    return graphs[variant]


def _called(path: Path) -> Path:
    """Give a file the name that is known of its format; write the configuration of an adapter, and name its base."""
    try:
        from headrace_engines import GGUF, format_of
        from headrace_engines.adapter_files import is_adapter, read_adapter
    except ModuleNotFoundError as error:
        raise ExtraMissing("pull", "report") from error
    if not is_adapter(path):
        return path.rename(path.with_name("model.gguf" if format_of(path) == GGUF else "model.onnx"))
    told = read_adapter(path)
    base = path.parent / BASE_FILE
    base.parent.mkdir()
    path.with_name(told.base).rename(base)
    path.with_name(CONFIG_FILE).write_text(json.dumps(dict(told.config), indent=2))
    return path.rename(path.with_name(ADAPTER_FILE))
