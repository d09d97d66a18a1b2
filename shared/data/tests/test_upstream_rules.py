"""What a document may say of servers outside of the replicas."""

from __future__ import annotations

import pytest
from headrace_data.spec import SpecInvalid, load_pipeline

DOCUMENT = """\
apiVersion: headrace/v1
kind: Pipeline
metadata: {name: answers}
stream:
  topic: answers
  schema:
    - {name: id, type: string, role: id}
    - {name: prompt, type: string, role: feature}
    - {name: answer, type: string, role: label}
prepare: {transform: {prompt: {encode: text}}}
train:
  task: generation
  network: {kind: causal-lm, digest: 'sha256:%s', sizeBytes: 10}
compress: {variants: [{kind: gguf-q8}]}
serve: %%s
""" % ("0" * 64)


def test_servers_are_read_and_leave_no_other_digest_changed() -> None:
    plain = load_pipeline(DOCUMENT % "{cache: off}")
    assert plain.serve.engine is None
    assert "engine" not in plain.serve.plain()
    said = load_pipeline(DOCUMENT % "{engine: {kind: upstream, urls: ['http://vllm:8000', 'https://b/v1'], key: vllm}}")
    assert said.serve.engine is not None
    assert said.serve.engine.plain() == {
        "kind": "upstream",
        "urls": ["http://vllm:8000", "https://b/v1"],
        "model": "{model}-v{version}",
        "key": "vllm",
    }


@pytest.mark.parametrize(
    ("engine", "expected"),
    [
        ("urls: []", "serve.engine.urls: "),
        ("urls: [vllm:8000]", "serve.engine.urls[0]: expected http:// or https://"),
        ("urls: ['http://key@vllm:8000']", "expected http:// or https://"),
        ("urls: ['http://vllm:99999']", "expected http:// or https://"),
        ("urls: ['http://vllm/a/../b']", "expected http:// or https://"),
        ("urls: ['http://vllm?a=b']", "expected http:// or https://"),
        ("urls: ['http://a', 'http://a']", "expected each server once, got http://a again"),
        ("urls: ['http://a'], model: llama", "serve.engine.model: expected {version} in it"),
        ("urls: ['http://a'], model: '{version}{name}'", "expected braces around model and version alone"),
        ("urls: ['http://a'], model: '{version!r}'", "expected at most 256 letters"),
        ("urls: ['http://a'], model: '{version'", "expected braces around model and version alone"),
        ("urls: ['http://a'], key: 'A b'", "serve.engine.key"),
        ("urls: ['http://a'], variant: int8", "serve.engine.variant: expected one of fp32, q8"),
        ("urls: ['http://a']}, degrade: true, objective: quality, x: {", "serve.degrade: expected false beside"),
        ("urls: ['http://a']}, classes: [avx2], x: {", "serve.classes: expected none beside serve.engine"),
    ],
)
def test_problems_name_their_place(engine: str, expected: str) -> None:
    with pytest.raises(SpecInvalid) as caught:
        load_pipeline(DOCUMENT % f"{{engine: {{kind: upstream, {engine}}}}}")
    assert expected in str(caught.value)


def test_other_tasks_are_computed_by_replicas() -> None:
    other = DOCUMENT.replace("task: generation", "task: classification").replace("causal-lm", "mlp")
    with pytest.raises(SpecInvalid) as caught:
        load_pipeline(other % "{engine: {kind: upstream, urls: ['http://a']}}")
    assert "serve.engine: expected none for a classification" in str(caught.value)
