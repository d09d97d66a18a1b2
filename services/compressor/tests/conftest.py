"""Real networks, trained for a moment on the real scanned digits of scikit-learn and exported to ONNX."""

from typing import Any

import numpy as np
import pytest
import torch
from headrace_compressor.core.compression import Version
from headrace_compressor.core.measurement import Rows
from headrace_data.transforms import FittedTransform
from headrace_learning.evaluation import Labelled
from headrace_learning.export import export_graph
from headrace_learning.families.cnn import cnn
from headrace_learning.families.mlp import mlp
from headrace_learning.features import Feature
from headrace_learning.large import whole
from headrace_learning.served import ServedClassifier
from sklearn.datasets import load_digits

Array = np.ndarray[Any, Any]

_TRAINING_ROWS = 1200
_EPOCHS = 20
_BATCH = 64


def _train(model: ServedClassifier, pixels: torch.Tensor, digits: torch.Tensor) -> None:
    # Threads that wait for each other starve where other work shares the cores.
    torch.set_num_threads(1)
    optimizer = torch.optim.Adam(model.parameters(), lr=3e-3)
    model.train()
    for _ in range(_EPOCHS):
        for start in range(0, len(digits), _BATCH):
            optimizer.zero_grad()
            logits, _ = model(pixels[start : start + _BATCH])
            torch.autograd.backward(torch.nn.functional.cross_entropy(logits, digits[start : start + _BATCH]))
            optimizer.step()


def _train_on_digits(network: torch.nn.Module, input_shape: tuple[int, ...]) -> bytes:
    pixels, digits = (each[:_TRAINING_ROWS] for each in _shuffled_digits())
    scale = np.maximum(pixels.std(axis=0), 1.0)
    fitted = FittedTransform("pixels", "standard", pixels.mean(axis=0).astype(np.float64), scale.astype(np.float64))
    feature = Feature(fitted, "float32", (8, 8))
    model = ServedClassifier([feature], input_shape, network)
    _train(model, model.prepare({"pixels": pixels}), torch.from_numpy(digits))
    return whole(export_graph(model, list(range(10)), {"pixels": pixels[:8]}).data)


def _shuffled_digits() -> tuple[Array, Array]:
    scans = load_digits()
    order = np.random.default_rng(7).permutation(len(scans.target))
    return scans.images[order].astype(np.float32), scans.target[order].astype(np.int64)


@pytest.fixture(scope="session")
def rows() -> Rows:
    """The digits that no network here has seen."""
    pixels, digits = (each[_TRAINING_ROWS:] for each in _shuffled_digits())
    return Rows("sha256:digits", [({"pixels": pixels}, digits)], len(digits))


@pytest.fixture(scope="session")
def learned() -> Labelled:
    """The digits that networks here have learned from."""
    pixels, digits = (each[:_TRAINING_ROWS] for each in _shuffled_digits())
    return [({"pixels": pixels}, digits)]


@pytest.fixture(scope="session")
def digits_mlp() -> Version:
    """A perceptron for the digits."""
    torch.manual_seed(7)
    return Version("sha256:mlp", "sha256:digits", _train_on_digits(mlp(64, [128, 64], 10), (64,)))


@pytest.fixture(scope="session")
def digits_cnn() -> Version:
    """A convolutional network for the digits."""
    torch.manual_seed(7)
    return Version("sha256:cnn", "sha256:digits", _train_on_digits(cnn((1, 8, 8), [8, 16], [64], 10), (1, 8, 8)))
