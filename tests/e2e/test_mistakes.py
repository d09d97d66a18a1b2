"""Whatever a user gets wrong is answered with what was expected and what came."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import grpc
import numpy as np
import pytest
from headrace import open_inference as oip

if TYPE_CHECKING:
    from headrace_local.launcher import Platform

pytestmark = pytest.mark.e2e

DIGITS = (Path(__file__).parents[2] / "examples" / "digits" / "pipeline.yaml").read_text()


@pytest.fixture
def infer(platform: Platform, released: dict[str, Any]) -> Any:
    """Call ModelInfer by a client that is nothing but grpc."""
    options = [("grpc.max_send_message_length", -1)]
    with grpc.insecure_channel(platform.addresses["inference"], options=options) as channel:
        call = channel.unary_unary(
            f"/{oip.SERVICE}/ModelInfer",
            request_serializer=oip.ModelInferRequest.SerializeToString,
            response_deserializer=oip.ModelInferResponse.FromString,
        )
        yield lambda request: call(request, timeout=20)


def request(
    *,
    model: str = "digits",
    version: str = "",
    name: str = "pixels",
    datatype: str = "FP32",
    shape: tuple[int, ...] = (1, 8, 8),
) -> Any:
    size = int(np.prod(shape)) * (8 if datatype == "FP64" else 4)
    return oip.ModelInferRequest(
        model_name=model,
        model_version=version,
        inputs=[oip.ModelInferRequest.InferInputTensor(name=name, datatype=datatype, shape=shape)],
        raw_input_contents=[bytes(size)],
    )


@pytest.mark.parametrize(
    ("wrong", "code", "words"),
    [
        ({"model": "letters"}, grpc.StatusCode.NOT_FOUND, ["letters"]),
        ({"version": "7"}, grpc.StatusCode.NOT_FOUND, ["7"]),
        ({"name": "image"}, grpc.StatusCode.INVALID_ARGUMENT, ["pixels", "image"]),
        ({"datatype": "FP64"}, grpc.StatusCode.INVALID_ARGUMENT, ["pixels", "FP32", "FP64"]),
        ({"shape": (1, 8, 9)}, grpc.StatusCode.INVALID_ARGUMENT, ["pixels", "8", "9"]),
        ({"shape": (8, 8)}, grpc.StatusCode.INVALID_ARGUMENT, ["pixels"]),
    ],
)
def test_a_wrong_call_is_refused_with_names(infer: Any, wrong: dict[str, Any], code: Any, words: list[str]) -> None:
    with pytest.raises(grpc.RpcError) as caught:
        infer(request(**wrong))
    assert caught.value.code() == code
    said = caught.value.details() or ""
    assert all(word in said for word in words), said


def test_an_oversized_message_is_refused_with_the_limit(infer: Any) -> None:
    with pytest.raises(grpc.RpcError) as caught:
        infer(request(shape=(300_000, 8, 8)))
    assert caught.value.code() == grpc.StatusCode.RESOURCE_EXHAUSTED
    assert str(8 * 1024 * 1024) in (caught.value.details() or "")


def test_a_right_call_still_works(infer: Any) -> None:
    response = infer(request())
    assert [output.name for output in response.outputs] == ["probabilities", "label"]


def test_a_wrong_document_is_refused_with_every_problem(headrace: Callable[..., Any], tmp_path: Path) -> None:
    wrong = tmp_path / "wrong.yaml"
    wrong.write_text(DIGITS.replace("epochs: 40", "epochs: many").replace("role: label", "role: labell"))
    for command in ("validate", "apply"):
        result = headrace(command, str(wrong))
        assert result.returncode == 1
        assert "epochs" in result.stdout + result.stderr
        assert "labell" in result.stdout + result.stderr
        assert "Traceback" not in result.stdout + result.stderr


def test_applying_without_the_producers_topic_says_how_to_make_it(headrace: Callable[..., Any], tmp_path: Path) -> None:
    document = tmp_path / "pipeline.yaml"
    document.write_text(DIGITS.replace("topic: digits", "topic: nowhere").replace("{name: digits}", "{name: nowhere}"))
    result = headrace("apply", str(document))
    assert result.returncode == 1
    assert "nowhere" in result.stdout + result.stderr
    assert "--create-topic" in result.stdout + result.stderr


def test_an_unknown_command_is_wrong_usage(headrace: Callable[..., Any]) -> None:
    assert headrace("serve").returncode == 2
    assert headrace("get", "everything").returncode == 2


def test_a_run_that_fails_ends_the_wait_with_its_reason(
    platform: Platform, headrace: Callable[..., Any], produce: Callable[..., None], tmp_path: Path
) -> None:
    document = tmp_path / "pipeline.yaml"
    changed = DIGITS.replace("{name: digits}", "{name: diverging}").replace("topic: digits", "topic: diverging")
    changed = changed.replace("model: digits", "model: diverging")
    start, end = changed.index("  optimizer:"), changed.index("  epochs:")
    document.write_text(
        changed[:start] + "  optimizer: {kind: momentum, learningRate: 10.0, momentum: 0.99}\n" + changed[end:]
    )
    applied = headrace("apply", str(document), "--create-topic")
    assert applied.returncode == 0, applied.stderr
    produce(platform, "diverging")
    result = headrace("wait", "diverging", "--timeout", "120s")
    assert result.returncode == 1
    assert "loss" in result.stdout + result.stderr
    runs = json.loads(headrace("get", "runs", "diverging", "--json").stdout)
    assert runs[-1]["state"] == "failed"
    assert "loss" in runs[-1]["reason"]
