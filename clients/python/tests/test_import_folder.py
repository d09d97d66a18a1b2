"""`import` of a folder as Hugging Face has it: kept file by file, and read by the trainer as the spec names it."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from textwrap import dedent
from typing import Any

import pytest
import safetensors.numpy
from headrace.events.v1.pipeline_pb2 import PipelineApplied, PipelineSpec
from headrace.registry.v1 import registry_service_pb2 as messages
from headrace_data.folder import Folder
from headrace_data.spec import CausalLanguageModel, EncoderNetwork, load_pipeline
from headrace_runtime.object_store import Artifact, ObjectStore

DOCUMENT = dedent(
    """\
    apiVersion: headrace/v1
    kind: Pipeline
    metadata: {name: reviews}
    stream:
      topic: reviews
      schema:
        - {name: id, type: string, role: id}
        - {name: review, type: string, role: feature, nullable: true}
        - {name: mood, type: string, role: label}
    """
)
HASHED = DOCUMENT + dedent(
    """\
    prepare: {transform: {review: {impute: {constant: nothing}, encode: {kind: hash, inputs: 64}}}}
    train: {network: {kind: mlp}, freeze: ["0"], from: champion}
    """
)
LABEL = "    - {name: mood, type: string, role: label}"
PAIR = DOCUMENT.replace(LABEL, f"    - {{name: reply, type: string, role: feature}}\n{LABEL}")
SHORT = ("--length", "32")


@pytest.fixture
def folder(tiny_bert: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("HEADRACE_STORE_URL", str(tmp_path / "store"))
    return Path(shutil.copytree(tiny_bert, tmp_path / "bert"))


def in_force(registry: Any, document: str) -> None:
    pipeline = load_pipeline(document)
    spec = PipelineSpec(json=pipeline.canonical_json(), digest=pipeline.digest)
    registry.pipelines = [PipelineApplied(pipeline="reviews", spec=spec, partitions=3)]


def asked(registry: Any) -> list[messages.ApplyPipelineRequest]:
    return [each for each in registry.requests if isinstance(each, messages.ApplyPipelineRequest)]


def test_a_folder_is_kept_and_its_pipeline_reads_texts(headrace, registry, tmp_path, folder):
    in_force(registry, HASHED)
    (folder / "README.md").write_text("not kept")
    done = headrace(
        *("import", "moods", str(folder), "--pipeline", "reviews", *SHORT),
        *("--tune", "frozen", "--epochs", "7", "--embedding"),
    )
    assert done.exit_code == 0, done.output
    put = load_pipeline(asked(registry)[-1].document)
    network = put.train.network
    assert isinstance(network, EncoderNetwork)
    assert (put.model, network.tune, network.length, put.train.epochs) == ("moods", "frozen", 32, 7)
    assert network.embedding
    assert not {"from", "freeze"} & put.plain()["train"].keys()
    transform = put.plain()["prepare"]["transform"]["review"]
    assert (transform["encode"], transform["impute"]) == ("text", {"constant": "nothing"})
    store = ObjectStore(str(tmp_path / "store"))
    listed = Folder.from_json(store.get(Artifact("", network.digest, network.size_bytes)))
    kept = {name: store.get(Artifact("", file.digest, file.size_bytes)) for name, file in listed.files.items()}
    names = ("config.json", "model.safetensors", "tokenizer.json")
    assert kept == {name: (folder / name).read_bytes() for name in names}
    assert f"digest {network.digest}" in done.stdout
    assert "32 tokens of each text, tune: frozen" in done.stderr


@pytest.mark.parametrize("prepare", ["", "prepare: {transform: {review: {encode: text}}}\n"])
def test_a_file_need_not_hold_before_it_names_the_folder(headrace, registry, tmp_path, folder, prepare):
    pipeline = tmp_path / "pipeline.yaml"
    pipeline.write_text(DOCUMENT + prepare)
    done = headrace("import", "reviews", str(folder), "--pipeline", str(pipeline), *SHORT, "--dry-run", "--json")
    assert done.exit_code == 0, done.output
    assert json.loads(done.stdout)["network"]["kind"] == "encoder"
    assert load_pipeline(asked(registry)[-1].document).transform("review").encode == "text"
    assert not (tmp_path / "store").exists()


def test_two_texts_are_read_as_a_pair(headrace, registry, tmp_path, folder):
    pipeline = tmp_path / "pipeline.yaml"
    pipeline.write_text(PAIR)
    done = headrace("import", "reviews", str(folder), "--pipeline", str(pipeline), *SHORT, "--dry-run")
    assert done.exit_code == 0, done.output
    put = load_pipeline(asked(registry)[-1].document)
    assert [put.transform(name).encode for name in ("review", "reply")] == ["text", "text"]
    assert "32 tokens of each pair" in done.stderr


def test_a_bert_that_does_not_tell_two_texts_apart_is_told(headrace, registry, tmp_path, folder):
    tensors = safetensors.numpy.load_file(folder / "model.safetensors")
    name = "embeddings.token_type_embeddings.weight"
    safetensors.numpy.save_file(tensors | {name: tensors[name][:1].copy()}, folder / "model.safetensors")
    changed(folder, type_vocab_size=1)
    (pair := tmp_path / "pipeline.yaml").write_text(PAIR)
    told = "expected a model that tells two texts apart, with type_vocab_size 2, got 1"
    refused(headrace, registry, tmp_path, told, str(folder), "--pipeline", str(pair), *SHORT)
    in_force(registry, HASHED)
    done = headrace("import", "reviews", str(folder), "--pipeline", "reviews", *SHORT, "--dry-run")
    assert done.exit_code == 0, done.output


def changed(folder: Path, **values: Any) -> None:
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | values))


def without(folder: Path, name: str, instead: str = "") -> None:
    (folder / name).unlink()
    if instead:
        (folder / instead).write_bytes(b"\x80\x04")


REFUSED = {
    "no configuration": (lambda folder: without(folder, "config.json"), "got one without config.json"),
    "no weights": (
        lambda folder: without(folder, "model.safetensors"),
        "got one without model.safetensors; its files:",
    ),
    "a pickle": (
        lambda folder: without(folder, "model.safetensors", "pytorch_model.bin"),
        "pickles hold programs and are never read: save it with model.save_pretrained",
    ),
    "weights in parts": (
        lambda folder: without(folder, "model.safetensors", "model.safetensors.index.json"),
        "weights in one file: save it with model.save_pretrained",
    ),
    "no fast tokenizer": (
        lambda folder: without(folder, "tokenizer.json", "vocab.txt"),
        "AutoTokenizer.from_pretrained(FOLDER).save_pretrained(FOLDER)",
    ),
    "another model": (lambda folder: changed(folder, model_type="roberta"), "of model_type bert, got 'roberta'"),
    "no JSON": (lambda folder: (folder / "config.json").write_bytes(b"\x80"), "expected config.json as JSON"),
    "a list": (
        lambda folder: (folder / "tokenizer.json").write_text("[]"),
        "tokenizer.json as a JSON object, got list",
    ),
    "no safetensors": (lambda folder: (folder / "model.safetensors").write_bytes(b"PK"), "expected safetensors as"),
    "other sizes": (lambda folder: changed(folder, hidden_size=64), "expected model.safetensors with embeddings."),
}


@pytest.mark.parametrize("case", REFUSED)
def test_a_folder_that_is_no_bert_is_told_and_changes_nothing(headrace, registry, tmp_path, folder, case):
    in_force(registry, HASHED)
    spoil, told = REFUSED[case]
    spoil(folder)
    refused(headrace, registry, tmp_path, told, str(folder), "--pipeline", "reviews", *SHORT)


@pytest.mark.parametrize(
    ("options", "told"),
    [
        ((), "train.network.length: expected at most 64 tokens, got 128"),
        (("--length", "0"), "--length"),
        (("--tune", "some"), "--tune"),
        (("--frozen", "conv*"), "expected none for a folder"),
        (("--format", "onnx"), "expected none for a folder"),
    ],
)
def test_an_option_that_does_not_fit_is_told(headrace, registry, tmp_path, folder, options, told):
    in_force(registry, HASHED)
    refused(headrace, registry, tmp_path, told, str(folder), "--pipeline", "reviews", *options)


@pytest.mark.parametrize(
    ("document", "told"),
    [
        (HASHED.replace("type: string, role: feature", "type: float32, role: feature"), "got review (float32)"),
        (
            HASHED.replace("role: label", "role: feature").replace(
                "    - {name: mood", "    - {name: reply, type: string, role: feature}\n    - {name: mood"
            ),
            "one feature or two, strings that the encoder reads, got review (string), reply (string), mood (string)",
        ),
        (HASHED.replace("{constant: nothing}", "mostFrequent"), "expected {constant: TEXT} for a string feature"),
        ("prepare: 5\n" + DOCUMENT, "prepare: expected a mapping, got int"),
        ("[]", "the pipeline: expected a mapping, got list"),
        ("a: [", "bad YAML"),
    ],
)
def test_a_pipeline_without_one_text_is_told(headrace, registry, tmp_path, folder, document, told):
    pipeline = tmp_path / "pipeline.yaml"
    pipeline.write_text(document)
    refused(headrace, registry, tmp_path, told, str(folder), "--pipeline", str(pipeline), *SHORT)


def test_a_file_is_not_tuned(headrace, registry, tmp_path, folder):
    refused(
        headrace, registry, tmp_path, "expected none for a file", str(folder / "config.json"), "--pipeline", "p", *SHORT
    )


def refused(headrace: Any, registry: Any, tmp_path: Path, told: str, *arguments: str) -> None:
    done = headrace("import", "reviews", *arguments)
    assert done.exit_code != 0
    assert told in " ".join(done.stderr.replace("│", " ").split())
    assert not asked(registry)
    assert not (tmp_path / "store").exists()


ANSWERS = DOCUMENT.replace("nullable: true}", "nullable: false}").replace("mood", "answer")


def test_a_gguf_file_is_kept_and_its_pipeline_answers_texts(headrace, registry, tmp_path, monkeypatch, tiny_gguf):
    monkeypatch.setenv("HEADRACE_STORE_URL", str(tmp_path / "store"))
    (tmp_path / "pipeline.yaml").write_text(ANSWERS)
    (tmp_path / "small.gguf").write_bytes(tiny_gguf())
    asks = ("import", "mill", str(tmp_path / "small.gguf"), "--pipeline", str(tmp_path / "pipeline.yaml"))
    done = headrace(*asks, "--length", "64", "--tune", "full", "--epochs", "2")
    assert done.exit_code == 0, done.output
    put = load_pipeline(asked(registry)[-1].document)
    network = put.train.network
    assert isinstance(network, CausalLanguageModel)
    assert (put.task, put.model, network.tune, network.length) == ("generation", "mill", "full", 64)
    assert put.transform("review").encode == "text"
    store = ObjectStore(str(tmp_path / "store"))
    listed = Folder.from_json(store.get(Artifact("", network.digest, network.size_bytes)))
    (file,) = listed.files.values()
    assert store.get(Artifact("", file.digest, file.size_bytes)) == tiny_gguf()
    assert "a llama of 80,192 numbers, 64 tokens of prompt and answer, tune: full" in done.stderr
    for told, option in (
        ("expected at most 256 tokens, got 999", ("--length", "999")),
        ("expected none for a GGUF file", ("--classes", "a,b")),
        ("Input should be 'lora' or 'full', got 'frozen'", ("--tune", "frozen")),
    ):
        done = headrace(*asks, *option)
        assert done.exit_code != 0
        assert told in " ".join(done.stderr.replace("│", " ").split())


def test_a_model_of_language_takes_the_place_of_another_network(headrace, registry, tmp_path, monkeypatch, tiny_gguf):
    monkeypatch.setenv("HEADRACE_STORE_URL", str(tmp_path / "store"))
    in_force(registry, ANSWERS + "prepare: {transform: {review: {encode: onehot}}}\ntrain: {network: {kind: mlp}}\n")
    (tmp_path / "small.gguf").write_bytes(tiny_gguf())
    done = headrace("import", "mill", str(tmp_path / "small.gguf"), "--pipeline", "reviews", "--length", "64")
    assert done.exit_code == 0, done.output
    # As the registry reads it, which takes no gates of another task.
    assert load_pipeline(asked(registry)[-1].document).task == "generation"
