"""The calls of NVIDIA's perf_analyzer in its order: what a model is, then load between two looks at its statistics."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import tritonclient.grpc as triton
from checks import run
from tritonclient.grpc import service_pb2

CONCURRENCY, WINDOW = 4, 60


def check_the_model_is_understood(client: triton.InferenceServerClient) -> None:
    assert "statistics" in client.get_server_metadata().extensions
    metadata, config = client.get_model_metadata("digits"), client.get_model_config("digits").config
    assert {each.name for each in metadata.inputs} == {each.name for each in config.input}
    assert {each.name for each in metadata.outputs} == {each.name for each in config.output}
    assert not any(each.optional for each in config.input)
    # What it chooses its scheduler by: neither sequences, nor ensembles, nor dynamic batching, nor many answers a call.
    for absent in ("sequence_batching", "ensemble_scheduling", "dynamic_batching"):
        assert not config.HasField(absent)
    assert not config.model_transaction_policy.decoupled
    assert config.HasField("response_cache")


def statistics(client: triton.InferenceServerClient) -> service_pb2.ModelStatistics:
    (entry,) = [each for each in client.get_inference_statistics("digits").model_stats if each.version == "1"]
    return entry


def send(client: triton.InferenceServerClient, metadata: service_pb2.ModelMetadataResponse, shape: list[int]) -> None:
    """Make the calls of one window."""
    (tensor,) = metadata.inputs
    array = np.zeros(shape, np.float32)
    outputs = [triton.InferRequestedOutput(each.name) for each in metadata.outputs]

    def infer(_number: int) -> None:
        data = triton.InferInput(tensor.name, array.shape, tensor.datatype)
        data.set_data_from_numpy(array)
        client.infer("digits", [data], outputs=outputs)

    with ThreadPoolExecutor(CONCURRENCY) as threads:
        list(threads.map(infer, range(WINDOW)))


def check_a_window_of_load_is_found_in_the_statistics(client: triton.InferenceServerClient) -> None:
    metadata, config = client.get_model_metadata("digits"), client.get_model_config("digits").config
    for batch in (1, 8):
        # It takes the batch off the metadata's shapes where the model has batches, and puts its own there.
        shape = list(metadata.inputs[0].shape)
        before = statistics(client)
        send(client, metadata, [batch, *shape[1:]] if config.max_batch_size else shape)
        after = statistics(client)
        old, new = before.inference_stats, after.inference_stats
        assert after.inference_count - before.inference_count == WINDOW * batch
        assert after.execution_count - before.execution_count == WINDOW
        assert new.success.count - old.success.count == WINDOW
        assert new.fail.count == old.fail.count
        for step in ("queue", "compute_input", "compute_infer", "compute_output"):
            assert getattr(new, step).count - getattr(old, step).count == WINDOW, step
        assert new.compute_infer.ns > old.compute_infer.ns
        assert batch in [each.batch_size for each in after.batch_stats]


def call(check: Any, address: str) -> None:
    with triton.InferenceServerClient(address) as client:
        check(client)


if __name__ == "__main__":
    run(globals(), call)
