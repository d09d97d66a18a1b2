"""A Keras model as a module of PyTorch's, which learns on.

Keras is an extra (`headrace-learning[keras]`), imported here alone, on its torch backend.
"""

import fnmatch
import importlib
import os
import tempfile
import warnings
from collections.abc import Iterator, Sequence
from contextlib import suppress
from math import prod
from pathlib import Path
from typing import Any, Final

import torch
from torch.utils._python_dispatch import TorchDispatchMode

from headrace_learning.bodies import Body
from headrace_learning.errors import NotLearnable
from headrace_learning.importing.core import Core, known, refused
from headrace_learning.importing.hdf5 import needs_extra
from headrace_learning.importing.keras_files import SUBJECT, KerasFile, read_keras_file
from headrace_learning.importing.keras_layers import require_known_parts
from headrace_learning.tracing import trace
from headrace_learning.training.randomness import seed_for

_MOST_VALUES: Final = 2**24
"""Values of one row behind one layer."""
_SHARES: Final = {"softmax": "logits", "sigmoid": "logits"}


class KerasNetwork(Core):
    """A model of Keras's. Its variables are parameters and buffers of this module, under the names that Keras has."""

    subject = SUBJECT
    libraries = ("keras", "h5py")

    def __init__(self, model: Any, shape: tuple[int, ...], outputs: int, seed: int) -> None:
        super().__init__()
        # Not a submodule: Keras's own registers each variable twice.
        self._model = (model,)
        self.shape = shape
        self.outputs = outputs
        self.answers = _without_shares(self._model[0], outputs)
        self._name_variables(seed)

    def _name_variables(self, seed: int) -> None:
        seeds = 0
        for variable in self._model[0].variables:
            if "seed_generator" in variable.path:
                # Dropout draws by it; Keras starts it at random.
                variable.assign([seed_for(f"keras {seeds}", seed, 0) % 2**31, 0])
                name, seeds = f"seed {seeds}", seeds + 1
            else:
                name = variable.path.replace(".", "_")
            if variable.trainable:
                self.register_parameter(name, variable.value)
            else:
                self.register_buffer(name, variable.value.requires_grad_(False))

    def forward(self, rows: torch.Tensor) -> torch.Tensor:
        """Answer rows [batch, *shape]."""
        answers: torch.Tensor = self._model[0](rows, training=self.training)
        return answers

    def body(self) -> Body:
        """Return it as an ONNX graph."""
        return trace(self, self.shape, SUBJECT)


def read_keras(data: bytes, frozen: Sequence[str] = (), seed: int = 0) -> KerasNetwork:
    """Read a .keras or .h5 file. `frozen` are patterns of layers' names that do not learn.

    Raise `NotLearnable` for a file that cannot be read, is not of built-in layers, or is larger in memory than on disk.
    """
    file = read_keras_file(data)
    with refused(SUBJECT):
        require_known_parts(file.config)
    keras = _keras()
    with refused(SUBJECT), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        keras.backend.clear_session(free_memory=False)
        shape, outputs = _ends(_outlined(keras, file), file)
        keras.backend.clear_session(free_memory=False)
        model = _loaded(keras, file)
        _freeze(model, frozen)
        return KerasNetwork(model, shape, outputs, seed)


def _keras() -> Any:
    os.environ.setdefault("KERAS_BACKEND", "torch")
    try:
        keras = importlib.import_module("keras")
    except ImportError as error:
        raise NotLearnable(needs_extra(error)) from error
    if keras.backend.backend() != "torch":
        raise NotLearnable(f"Keras: expected the backend torch, got {keras.backend.backend()}; unset KERAS_BACKEND")
    keras.config.set_floatx("float32")
    keras.config.set_image_data_format("channels_last")
    return keras


def _outlined(keras: Any, file: KerasFile) -> Any:
    """Return the model without memory for its weights, to measure it."""
    with keras.device("meta"):
        if file.suffix == ".keras":
            return keras.saving.deserialize_keras_object(dict(file.config), safe_mode=True)
        older = importlib.import_module("keras.src.legacy.saving.saving_utils")
        return older.model_from_config(dict(file.config))


def _loaded(keras: Any, file: KerasFile) -> Any:
    with tempfile.TemporaryDirectory(prefix="headrace-import-") as folder:
        path = Path(folder) / f"model{file.suffix}"
        path.write_bytes(file.data)
        return keras.saving.load_model(path, compile=False, safe_mode=True)


def _ends(model: Any, file: KerasFile) -> tuple[tuple[int, ...], int]:
    """Return the shape of a row and the number of outputs of a model that fits its file."""
    if not model.built or len(model.inputs) != 1 or len(model.outputs) != 1:
        told = f"{len(model.inputs)} and {len(model.outputs)}" if model.built else "a model that was never built"
        raise NotLearnable(f"{SUBJECT}: expected one input and one output, got {told}")
    row, answers = tuple(model.inputs[0].shape[1:]), tuple(model.outputs[0].shape[1:])
    if not all(row) or len(answers) != 1 or not all(answers):
        raise NotLearnable(
            f"{SUBJECT}: expected an input of a known shape and answers [batch, outputs], got {[None, *row]} and "
            f"{[None, *answers]}"
        )
    numbers = sum(prod(variable.shape) for variable in model.variables if "seed_generator" not in variable.path)
    if numbers > file.numbers:
        raise NotLearnable(
            f"{SUBJECT}: expected weights for all layers, {numbers:,} numbers, got {file.numbers:,} in the file"
        )
    if (largest := max(prod(row), _largest(model, row))) > _MOST_VALUES:
        raise NotLearnable(
            f"{SUBJECT}: expected at most {_MOST_VALUES:,} values of a row behind a layer, got {largest:,}"
        )
    return row, answers[0]


def _largest(model: Any, row: tuple[int, ...]) -> int:
    """Return the most values of a row behind a layer, and behind those of models within the model.

    Raise `NotLearnable` where neither a row can be followed nor the file tells every size.
    """
    with suppress(Exception):  # of layers that ask for values, and there are none
        return _followed(model, row)
    shapes = {layer.name: _shape(layer)[1:] for layer in _layers(model)}
    if unknown := [name for name, shape in shapes.items() if None in shape]:
        raise NotLearnable(f"{SUBJECT}: expected layers that answer known shapes, got others of {known(unknown)}")
    return max(prod(size or 1 for size in shape) for shape in shapes.values())


def _followed(model: Any, row: tuple[int, ...]) -> int:
    """Return the most values of any tensor while a model without values answers a row."""
    sizes = _Sizes()  # type: ignore[no-untyped-call]  # of PyTorch's, as the class below
    sizes.weights = max((prod(variable.shape) for variable in model.variables), default=0)
    with importlib.import_module("keras").device("meta"), torch.no_grad(), sizes:
        model(torch.zeros((1, *row), device="meta"), training=False)
    return sizes.largest


class _Sizes(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Looks at what every operation of PyTorch's gives; what is no larger than weights may be such."""

    weights = 0
    largest = 0

    def __torch_dispatch__(self, operation: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        given = operation(*args, **(kwargs or {}))
        for each in given if isinstance(given, list | tuple) else (given,):
            if isinstance(each, torch.Tensor) and each.numel() > self.weights:
                self.largest = max(self.largest, each.numel())
        return given


def _shape(layer: Any) -> tuple[int | None, ...]:
    """Return the shape of what a layer answers, none where it has several outputs."""
    shape = getattr(layer.output, "shape", ())
    return tuple(shape)


def _without_shares(model: Any, outputs: int) -> str | None:
    """Have a model answer logits whose last layer makes shares of them; return what is known of its answers."""
    last = model.outputs[0]._keras_history.operation  # noqa: SLF001 - nothing public tells the last layer of a graph
    name = getattr(getattr(last, "activation", None), "__name__", "")
    if name == "softmax" or (name == "sigmoid" and outputs == 1):
        last.activation = importlib.import_module("keras").activations.linear
        return "logits"
    return None


def _freeze(model: Any, patterns: Sequence[str]) -> None:
    layers = {layer.name: layer for layer in _layers(model)}
    for pattern in patterns:
        found = fnmatch.filter(layers, pattern)
        if not found:
            raise NotLearnable(
                f"train.network.frozen: expected names of layers, such as {known(layers)}, got {pattern!r}"
            )
        for name in found:
            layers[name].trainable = False


def _layers(model: Any) -> Iterator[Any]:
    for layer in model.layers:
        yield layer
        if hasattr(layer, "layers"):
            yield from _layers(layer)
