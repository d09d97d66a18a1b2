"""`import`: a model that was made elsewhere becomes versions of a pipeline."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, TypeVar

import typer

from headrace_client.addresses import find_addresses
from headrace_client.applying import consequence
from headrace_client.cli.documents import read_document
from headrace_client.cli.output import JsonOption, note, print_json, printable, say
from headrace_client.cli.tables import size_text
from headrace_client.errors import InputInvalid
from headrace_client.registry import RegistryClient
from headrace_client.views import pipeline_view, short_id

if TYPE_CHECKING:
    from headrace.registry.v1 import registry_service_pb2 as messages
    from headrace_data.spec import CausalLanguageModel, EncoderNetwork, ImportedModel, Kept, Pipeline

    from headrace_client.folders import Files

SectionT = TypeVar("SectionT", "ImportedModel", "EncoderNetwork", "CausalLanguageModel")
NameArgument = Annotated[str, typer.Argument(metavar="NAME", help="Name of the model, as clients will call it.")]
PathArgument = Annotated[
    Path,
    typer.Argument(
        metavar="PATH", help="An .onnx, .keras, .h5 or .gguf file, or the folder of a BERT or a Llama.", exists=True
    ),
]
PipelineOption = Annotated[
    str, typer.Option("--pipeline", metavar="P", help="A pipeline in force, or a pipeline's YAML file.")
]
FormatOption = Annotated[
    str, typer.Option("--format", metavar="FORMAT", help="onnx or keras; default: by the file's name.")
]
FrozenOption = Annotated[
    list[str] | None,
    typer.Option("--frozen", metavar="LAYER", help="Keras: a layer that is not trained, such as 'conv*'; '*' for all."),
]
ClassesOption = Annotated[
    str,
    typer.Option("--classes", metavar="A,B,…", help="The label's values in the order of the outputs; default: sorted."),
]
AnswersOption = Annotated[
    str, typer.Option("--answers", metavar="KIND", help="logits or probabilities; default: found out.")
]
TuneOption = Annotated[
    str, typer.Option("--tune", metavar="HOW", help="BERT, Llama: lora or full; BERT: frozen; default: lora.")
]
LengthOption = Annotated[
    int | None,
    typer.Option(
        "--length", metavar="N", help="BERT: tokens that are read, 128; Llama: tokens of prompt and answer, 512."
    ),
]
EmbeddingOption = Annotated[
    bool, typer.Option("--embedding", help="BERT: versions answer the embedding of a text too, for search.")
]
EpochsOption = Annotated[
    int | None,
    typer.Option(
        "--epochs", min=1, help="Passes over the training split, where it is trained on; default: the pipeline's."
    ),
]
CreateTopicOption = Annotated[
    bool, typer.Option("--create-topic", help="Create the producers' topic when it does not exist.")
]
DryRunOption = Annotated[bool, typer.Option("--dry-run", help="Try the model; keep and change nothing.")]


def import_(
    name: NameArgument,
    path: PathArgument,
    pipeline: PipelineOption,
    file_format: FormatOption = "",
    frozen: FrozenOption = None,
    classes: ClassesOption = "",
    answers: AnswersOption = "",
    tune: TuneOption = "",
    length: LengthOption = None,
    embedding: EmbeddingOption = False,
    epochs: EpochsOption = None,
    create_topic: CreateTopicOption = False,
    dry_run: DryRunOption = False,
    as_json: JsonOption = False,
) -> None:
    """Put a model that was made elsewhere in force: ONNX is judged as it came; Keras, BERT and Llama are trained on.

    It is tried, kept in the object store under its digest, and named by the pipeline's train.network. What comes of it
    is a version like any other: measured, gated, released and rolled back.
    """
    path = path.absolute()  # so that . has a name
    is_language, what = _known_by(path)
    of_files = {"format": file_format, "frozen": frozen, "classes": classes, "answers": answers}
    of_folders = {"tune": tune or None, "length": length, "embedding": embedding or None}
    _refuse(of_files if is_language else of_folders, what)
    with RegistryClient(find_addresses().registry) as registry:
        given = (registry, pipeline, path, name, epochs)
        of_file = (file_format, frozen or [], classes, answers)
        taken = _folder(*given, of_folders) if is_language else _file(*given, *of_file)
        note(f"{printable(path.name)}: {taken.tried}")
        if not dry_run:
            taken.keep()
        before = [] if as_json else registry.pipelines(taken.spec.name)
        answer = registry.apply(taken.document, create_topic=create_topic, dry_run=dry_run)
        follows = consequence(registry, before[0], answer.applied) if before and answer.changed else ""
    if as_json:
        print_json(_view(taken.section, answer))
        return
    _say(path, taken, answer, follows, dry_run=dry_run)


@dataclass(frozen=True)
class _Taken:
    """A model that was tried, and the pipeline that is to name it."""

    spec: Pipeline
    section: ImportedModel | EncoderNetwork | CausalLanguageModel
    document: bytes
    tried: str
    """What was tried, in words."""
    keep: Callable[[], object]
    size_bytes: int
    prepared: str = ""
    """The features that are changed before the model gets them."""


def _known_by(path: Path) -> tuple[bool, str]:
    """Return whether a path is of a model of language, and what it is in words."""
    if path.is_dir() and not (path / "saved_model.pb").exists():
        return True, "a folder"
    return (True, "a GGUF file") if path.suffix.lower() == ".gguf" else (False, "a file")


def _refuse(options: Mapping[str, object], what: str) -> None:
    for option, given in options.items():
        if given not in (None, "", []):
            raise typer.BadParameter(f"expected none for {what}", param_hint=f"--{option}")


def _file(
    registry: RegistryClient,
    pipeline: str,
    path: Path,
    name: str,
    epochs: int | None,
    file_format: str,
    frozen: list[str],
    classes: str,
    answers: str,
) -> _Taken:
    from headrace_data.spec import ImportedModel

    from headrace_client import importing

    kind, data = file_format or importing.format_of(path), importing.read_model(path)
    spec = _pipeline(registry, pipeline)
    values = importing.label_values([each.strip() for each in classes.split(",")], spec) if classes else None
    plain: dict[str, object] = {
        "kind": "imported",
        "format": kind,
        "digest": f"sha256:{hashlib.sha256(data).hexdigest()}",
    }
    plain |= {"size_bytes": len(data), "frozen": tuple(frozen), "classes": values, "answers": answers or None}
    section = _section(ImportedModel, plain)
    tried = importing.check(data, section, spec, registry.datasets(spec.name))
    document = importing.with_import(spec, name, section, epochs)
    prepared = ", ".join(importing.transformed(spec))
    return _Taken(spec, section, document, tried, lambda: importing.keep(path), len(data), prepared)


def _folder(
    registry: RegistryClient, pipeline: str, path: Path, name: str, epochs: int | None, said: Mapping[str, object]
) -> _Taken:
    from headrace_data.canonical import canonical
    from headrace_data.spec import SpecInvalid

    from headrace_client import folders, languages

    writes = not path.is_dir() or folders.kind_of(path) in languages.KINDS
    given = {key: value for key, value in said.items() if value is not None}
    try:
        section, spec, found, tried = (_language if writes else _encoder)(registry, pipeline, path, name, epochs, given)
    except SpecInvalid as error:
        raise InputInvalid(f"{pipeline}: {error}") from error
    document = spec.plain()
    folders.without_defaults(document)
    return _Taken(spec, section, canonical(document), tried, lambda: folders.keep(found), found.size_bytes)


def _encoder(
    registry: RegistryClient, pipeline: str, path: Path, name: str, epochs: int | None, given: Mapping[str, object]
) -> tuple[EncoderNetwork, Pipeline, Files, str]:
    from headrace_data.spec import EncoderNetwork

    from headrace_client import encoders

    found = encoders.read_encoder(path)
    plain = {"kind": "encoder", "digest": found.digest, "size_bytes": len(found.document)}
    section = _section(EncoderNetwork, plain | dict(given))
    spec = encoders.with_encoder(_plain(registry, pipeline), name, section, epochs)
    return section, spec, found, encoders.check(found, section, len(spec.stream.features))


def _language(
    registry: RegistryClient, pipeline: str, path: Path, name: str, epochs: int | None, given: Mapping[str, object]
) -> tuple[CausalLanguageModel, Pipeline, Files, str]:
    from headrace_data.spec import CausalLanguageModel

    from headrace_client import languages

    found = languages.read_language(path)
    plain = {"kind": "causal-lm", "digest": found.digest, "size_bytes": len(found.document)}
    section = _section(CausalLanguageModel, plain | dict(given))
    spec = languages.with_language(_plain(registry, pipeline), name, section, epochs)
    return section, spec, found, languages.check(found, section)


def _view(section: Kept, answer: messages.ApplyPipelineResponse) -> dict[str, object]:
    view = pipeline_view(answer.applied)
    told = {key: view[key] for key in ("pipeline", "model", "spec_digest")}
    return told | {"network": section.plain(), "changed": answer.changed}


def _say(path: Path, taken: _Taken, answer: messages.ApplyPipelineResponse, follows: str, *, dry_run: bool) -> None:
    view = pipeline_view(answer.applied)
    kept, force = ("would be kept", "would be in force") if dry_run else ("is kept", "is in force")
    if not answer.changed:
        force = "is in force already"
    say(f"{printable(path.name)} {kept}: {size_text(taken.size_bytes)}, digest {taken.section.digest}")
    say(f"pipeline '{view['pipeline']}' {force} (spec {short_id(view['spec_digest'])}), serves model '{view['model']}'")
    if follows:
        say(follows)
    if taken.prepared:
        note(f"the model gets features as prepare.transform makes them, not as they are sent: {taken.prepared}")


def _pipeline(registry: RegistryClient, name: str) -> Pipeline:
    """Return the pipeline of a file, or the one in force under a name."""
    from headrace_data.spec import SpecInvalid, load_pipeline, parse_canonical

    try:
        if _is_file(name):
            return load_pipeline(read_document(name))
        return parse_canonical(registry.pipeline(name).spec.json)
    except SpecInvalid as error:
        raise InputInvalid(f"{name}: {error}") from error


def _plain(registry: RegistryClient, name: str) -> object:
    """Return a pipeline's document as plain values; what a file says need not hold before it names a network."""
    from headrace_data.spec import SpecInvalid
    from headrace_data.spec.yaml_tree import read_yaml

    if not _is_file(name):
        return json.loads(registry.pipeline(name).spec.json)
    tree = read_yaml(read_document(name))
    if tree.problems:
        raise SpecInvalid(sorted(set(tree.problems)))
    return tree.value


def _is_file(name: str) -> bool:
    return name.endswith((".yaml", ".yml", ".json"))


def _section(model: type[SectionT], plain: Mapping[str, object]) -> SectionT:
    """Return a section of what was said. Raises typer's BadParameter for an option that it has no room for."""
    from pydantic import ValidationError

    try:
        return model.model_validate(plain)
    except ValidationError as error:
        wrong = error.errors()[0]
        option = f"--{str(wrong['loc'][0]).replace('_', '-')}"
        raise typer.BadParameter(f"{wrong['msg']}, got {wrong['input']!r}", param_hint=option) from error
