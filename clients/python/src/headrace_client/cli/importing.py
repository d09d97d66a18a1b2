"""`import`: a model that was made elsewhere becomes versions of a pipeline."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from headrace_client.addresses import find_addresses
from headrace_client.applying import consequence
from headrace_client.cli.files import read_file
from headrace_client.cli.output import JsonOption, note, print_json, printable, say
from headrace_client.cli.tables import size_text
from headrace_client.errors import InputInvalid
from headrace_client.registry import RegistryClient
from headrace_client.views import pipeline_view, short_id

if TYPE_CHECKING:
    from headrace.registry.v1 import registry_service_pb2 as messages
    from headrace_data.spec import ImportedModel, Pipeline

NameArgument = Annotated[str, typer.Argument(metavar="NAME", help="Name of the model, as clients will call it.")]
PathArgument = Annotated[Path, typer.Argument(metavar="PATH", help="An .onnx, .keras or .h5 file.", exists=True)]
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
EpochsOption = Annotated[
    int | None, typer.Option("--epochs", min=1, help="Keras: passes over the training split; default: the pipeline's.")
]
CreateTopicOption = Annotated[
    bool, typer.Option("--create-topic", help="Create the producers' topic when it does not exist.")
]
DryRunOption = Annotated[bool, typer.Option("--dry-run", help="Try the file; keep and change nothing.")]


def import_(
    name: NameArgument,
    path: PathArgument,
    pipeline: PipelineOption,
    file_format: FormatOption = "",
    frozen: FrozenOption = None,
    classes: ClassesOption = "",
    answers: AnswersOption = "",
    epochs: EpochsOption = None,
    create_topic: CreateTopicOption = False,
    dry_run: DryRunOption = False,
    as_json: JsonOption = False,
) -> None:
    """Put a model that was made elsewhere in force: ONNX is judged as it came, Keras is trained on by the stream.

    The file is tried on sample rows, kept in the object store under its digest, and named by the pipeline's
    train.network. What comes of it is a version like any other: measured, gated, released and rolled back.
    """
    from headrace_client import importing

    kind, data = file_format or importing.format_of(path), importing.read_model(path)
    with RegistryClient(find_addresses().registry) as registry:
        spec = _pipeline(registry, pipeline)
        values = importing.label_values([each.strip() for each in classes.split(",")], spec) if classes else None
        section = _section(kind, data, tuple(frozen or ()), values, answers)
        note(f"{printable(path.name)}: {importing.check(data, section, spec, registry.datasets(spec.name))}")
        if not dry_run:
            importing.keep(path)
        before = [] if as_json else registry.pipelines(spec.name)
        document = importing.with_import(spec, name, section, epochs)
        answer = registry.apply(document, create_topic=create_topic, dry_run=dry_run)
        follows = consequence(registry, before[0], answer.applied) if before and answer.changed else ""
    if as_json:
        print_json(_view(section, answer))
        return
    _say(path, section, answer, dry_run=dry_run)
    if follows:
        say(follows)
    if prepared := importing.transformed(spec):
        note(f"the model gets features as prepare.transform makes them, not as they are sent: {', '.join(prepared)}")


def _view(section: ImportedModel, answer: messages.ApplyPipelineResponse) -> dict[str, object]:
    view = pipeline_view(answer.applied)
    told = {key: view[key] for key in ("pipeline", "model", "spec_digest")}
    return told | {"network": section.plain(), "changed": answer.changed}


def _say(path: Path, section: ImportedModel, answer: messages.ApplyPipelineResponse, *, dry_run: bool) -> None:
    view = pipeline_view(answer.applied)
    kept, force = ("would be kept", "would be in force") if dry_run else ("is kept", "is in force")
    if not answer.changed:
        force = "is in force already"
    say(f"{printable(path.name)} {kept}: {size_text(section.size_bytes)}, digest {section.digest}")
    say(f"pipeline '{view['pipeline']}' {force} (spec {short_id(view['spec_digest'])}), serves model '{view['model']}'")


def _pipeline(registry: RegistryClient, name: str) -> Pipeline:
    """Return the pipeline of a file, or the one in force under a name."""
    from headrace_data.spec import SpecInvalid, load_pipeline, parse_canonical

    try:
        if name.endswith((".yaml", ".yml", ".json")):
            return load_pipeline(read_file(name))
        return parse_canonical(registry.pipeline(name).spec.json)
    except SpecInvalid as error:
        raise InputInvalid(f"{name}: {error}") from error


def _section(
    kind: str, data: bytes, frozen: tuple[str, ...], classes: tuple[bool | int | str, ...] | None, answers: str
) -> ImportedModel:
    from headrace_data.spec import ImportedModel
    from pydantic import ValidationError

    try:
        return ImportedModel.model_validate(
            {
                "kind": "imported",
                "format": kind,
                "digest": f"sha256:{hashlib.sha256(data).hexdigest()}",
                "size_bytes": len(data),
                "frozen": frozen,
                "classes": classes,
                "answers": answers or None,
            }
        )
    except ValidationError as error:
        wrong = error.errors()[0]
        option = f"--{str(wrong['loc'][0]).replace('_', '-')}"
        raise typer.BadParameter(f"{wrong['msg']}, got {wrong['input']!r}", param_hint=option) from error
