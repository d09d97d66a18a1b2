"""A model that was made elsewhere, on its way into a pipeline: its file kept, and the pipeline's spec naming it.

Needs the extra `import` of `headrace-client`, which brings the object store and what tries a file before it is kept.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Final

from headrace_client.errors import ExtraMissing, InputInvalid
from headrace_client.folders import without_defaults
from headrace_client.stores import opened_store

if TYPE_CHECKING:
    from headrace.registry.v1.registry_service_pb2 import Dataset
    from headrace_data.manifest import Manifest
    from headrace_data.spec import ImportedModel, Pipeline

FORMATS: Final = {".onnx": "onnx", ".keras": "keras", ".h5": "keras", ".hdf5": "keras"}
"""The format of a file by how its name ends."""
_TORCH: Final = "PyTorch's own files hold programs and are never read; write ONNX with torch.onnx.export"
_TENSORFLOW: Final = (
    "convert it in an environment of its own: `uv run --no-project --with tensorflow-cpu --with tf2onnx "
    "python -m tf2onnx.convert --saved-model {name} --output model.onnx`, or load it with Keras 2 and save it as .h5"
)
_PICKLE: Final = "pickles hold programs and are never read; convert the model, such as by skl2onnx.to_onnx(model, rows)"
_HINTS: Final = {
    ".pt": _TORCH,
    ".pth": _TORCH,
    ".ckpt": _TORCH,
    ".pkl": _PICKLE,
    ".pickle": _PICKLE,
    ".joblib": _PICKLE,
    ".pb": _TENSORFLOW,
    ".tflite": "convert it: `python -m tf2onnx.convert --tflite {name} --output model.onnx`",
    ".safetensors": "it has weights without layers; save the model as ONNX",
    ".json": "it has layers without weights; save the model with model.save('model.keras')",
}
_MOST_BYTES: Final = 2**31 - 1


def format_of(path: Path) -> str:
    """Return the format of a file by its name. Raises InputInvalid, with what to do, where none is known."""
    if path.is_dir():
        if (path / "saved_model.pb").exists():
            raise InputInvalid(f"{path.name}: expected a file, got a SavedModel; {_TENSORFLOW.format(name=path.name)}")
        raise InputInvalid(f"{path.name}: expected the file of a model, got a folder")
    found = FORMATS.get(path.suffix.lower())
    if found is None:
        hint = _HINTS.get(path.suffix.lower(), "or say --format").format(name=path.name)
        raise InputInvalid(f"{path.name}: expected a name that ends with {', '.join(FORMATS)}; {hint}")
    return found


def read_model(path: Path) -> bytes:
    """Return a file's bytes. Raises InputInvalid when it cannot be read, is empty or too large."""
    try:
        size = path.stat().st_size
        if not 0 < size <= _MOST_BYTES:
            raise InputInvalid(f"{path.name}: expected 1 to {_MOST_BYTES:,} bytes, got {size:,}")
        return path.read_bytes()
    except OSError as error:
        raise InputInvalid(f"{path} cannot be read: {error.strerror}") from error


def label_values(texts: Sequence[str], pipeline: Pipeline) -> tuple[bool | int | str, ...]:
    """Return texts as values of a pipeline's label. Raises InputInvalid for a text that is none."""
    label = pipeline.stream.label
    if label.type == "string":
        return tuple(texts)
    if label.type == "bool":
        known: dict[str, bool] = {"false": False, "true": True}
        if strange := [text for text in texts if text.lower() not in known]:
            raise InputInvalid(f"--classes: expected true and false, as label {label.name!r} is, got {strange[0]!r}")
        return tuple(known[text.lower()] for text in texts)
    try:
        return tuple(int(text) for text in texts)
    except ValueError as error:
        raise InputInvalid(f"--classes: expected whole numbers, as label {label.name!r} is: {error}") from error


def with_import(pipeline: Pipeline, model: str, section: ImportedModel, epochs: int | None) -> bytes:
    """Return the document of a pipeline that serves a model of a name, made of an imported file."""
    from headrace_data.canonical import canonical

    plain = pipeline.plain()
    # What is said of a version to begin from is about another network.
    kept = {key: value for key, value in plain["train"].items() if key not in ("from", "freeze", "rates")}
    train = {**kept, "model": model, "network": section.plain()}
    document = {**plain, "train": train | ({} if epochs is None else {"epochs": epochs})}
    without_defaults(document)
    return canonical(document)


def check(data: bytes, section: ImportedModel, pipeline: Pipeline, datasets: Sequence[Dataset]) -> str:
    """Try a file on sample rows, and against the newest dataset; return in words what was tried.

    Raises InputInvalid for one that cannot be served, and ExtraMissing.
    """
    try:
        from headrace_learning.errors import NotLearnable
        from headrace_learning.import_check import check_import
    except ModuleNotFoundError as error:
        raise ExtraMissing("import", "import") from error
    newest = _manifest(datasets[-1]) if datasets else None
    if newest is not None and newest.schema_digest != pipeline.schema_digest:
        newest = None  # of before the schema changed
    try:
        core = check_import(data, section, pipeline, newest)
    except NotLearnable as error:
        raise InputInvalid(str(error)) from error
    ends = f"rows of shape {list(core.shape)}, {core.outputs} output{'s' if core.outputs != 1 else ''}"
    return f"{ends}; {'fits the newest dataset' if newest else 'no dataset yet to hold it against'}"


def keep(path: Path) -> tuple[str, int]:
    """Keep a file in the object store; return its digest and size. Raises what `opened_store` does."""
    with opened_store("import", "import") as store:
        artifact = store.put_file(path)
    return artifact.digest, artifact.size_bytes


def _manifest(dataset: Dataset) -> Manifest:
    from headrace_data.manifest import Manifest

    with opened_store("import", "import") as store:
        return Manifest.from_json(store.get(dataset.frozen.manifest))


def transformed(pipeline: Pipeline) -> list[str]:
    """Return the features that are changed before a file gets them, each with how."""
    found = []
    for field in pipeline.stream.features:
        transform = pipeline.transform(field.name)
        how = transform.encode or transform.scale or "none"
        name = how if isinstance(how, str) else how.kind
        if name != "none":
            found.append(f"{field.name} ({name})")
    return found
