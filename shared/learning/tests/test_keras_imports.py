"""Models of Keras's: read, trained on, frozen, exported; and files that mean no good."""

from __future__ import annotations

import io
import json
import os
import random
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
import torch
from headrace_data.tasks.classification import PROBABILITIES
from headrace_data.tasks.regression import PREDICTION
from headrace_learning.errors import NotLearnable
from headrace_learning.evaluation import open_graph
from headrace_learning.importing import hdf5
from headrace_learning.importing.keras_files import read_keras_file
from headrace_learning.importing.keras_network import read_keras
from headrace_learning.training.randomness import make_deterministic

from .imports import Notebook, exported, fitted, model_of, rows_of

os.environ["KERAS_BACKEND"] = "torch"
pytestmark = [
    pytest.mark.slow,
    # Of Keras's own, where it makes arrays of tensors, such as to save them.
    pytest.mark.filterwarnings("ignore:__array__ implementation doesn't accept a copy keyword:DeprecationWarning"),
    pytest.mark.filterwarnings("ignore:You are saving your model as an HDF5 file"),
]

Save = Callable[[Any, str], bytes]
CLASSES = ("a", "b", "c")


@pytest.fixture
def keras() -> Any:
    import keras

    keras.utils.set_random_seed(1)
    return keras


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    threads = torch.get_num_threads()
    make_deterministic()
    yield
    torch.set_deterministic_debug_mode("default")
    torch.set_num_threads(threads)


@pytest.fixture
def save(tmp_path: Path) -> Save:
    def write(model: Any, suffix: str) -> bytes:
        path = tmp_path / f"model{suffix}"
        model.save(path)
        return path.read_bytes()

    return write


def small(keras: Any, *last: Any, width: int = 6) -> Any:
    layers = keras.layers
    return keras.Sequential(
        [
            layers.Input((width,)),
            layers.Dense(8, activation="relu", name="first"),
            layers.BatchNormalization(name="norm"),
            layers.Dropout(0.2),
            *(last or [layers.Dense(3, activation="softmax", name="last")]),
        ]
    )


@pytest.mark.parametrize("suffix", [".keras", ".h5"])
def test_a_model_answers_as_it_did_where_nothing_is_trained(keras: Any, save: Save, suffix: str) -> None:
    model = small(keras)
    found = fitted(save(model, suffix), "keras", (6,), CLASSES, frozen=["*"])

    graph = exported(found.network, (6,), CLASSES).data
    rows = rows_of((6,), 3, 20, 3).inputs
    (answers,) = open_graph(graph).run({"x": rows.numpy()}, [PROBABILITIES])
    np.testing.assert_allclose(answers, model(rows).detach().numpy(), atol=1e-6)
    assert (found.outcome.epochs, found.libraries) == (0, ("keras", "h5py"))


def test_a_model_learns_on_alike_from_any_checkpoint(keras: Any, save: Save) -> None:
    data, straight = save(small(keras), ".keras"), Notebook(midway=True)
    first = fitted(data, "keras", (6,), CLASSES, straight)
    weights = first.weights(model_of(first.network, (6,), CLASSES))

    assert straight.losses[-1] < straight.losses[0]
    for done in (0, 9, len(straight.kept)):
        torch.manual_seed(done)
        random.seed(done)
        again = fitted(data, "keras", (6,), CLASSES, Notebook(kept=straight.kept[:done]))
        assert again.weights(model_of(again.network, (6,), CLASSES)) == weights, done
        assert again.outcome == first.outcome
    graphs = {exported(each.network, (6,), CLASSES).data for each in (first, again)}
    assert len(graphs) == 1


def test_frozen_layers_stay_and_others_learn(keras: Any, save: Save) -> None:
    model = small(keras)
    found = fitted(save(model, ".keras"), "keras", (6,), CLASSES, frozen=["first", "nor*"])

    held = {name.removeprefix("core."): value for name, value in found.network.state_dict().items()}
    given = {
        variable.path.split("/", 1)[1] if variable.path.count("/") > 1 else variable.path: variable.value
        for variable in model.variables
    }
    changed = {name for name, value in given.items() if "seed" not in name and not torch.equal(value, held[name])}
    assert changed == {"last/kernel", "last/bias"}
    assert found.parameters == 8 * 3 + 3
    with pytest.raises(NotLearnable, match="expected names of layers, such as first, norm, dropout, last, got 'lst'"):
        fitted(save(model, ".keras"), "keras", (6,), CLASSES, frozen=["lst"])


def test_one_sigmoid_is_the_second_of_two_classes(keras: Any, save: Save) -> None:
    model = small(keras, keras.layers.Dense(1, activation="sigmoid"))
    rows = rows_of((6,), 2, 20, 3).inputs
    share = model(rows).detach().numpy()[:, 0]
    for classes, place in ((None, 1), (["no", "yes"], 1), (["yes", "no"], 0)):
        found = fitted(save(model, ".h5"), "keras", (6,), ("no", "yes"), frozen=["*"], classes=classes)
        (answers,) = open_graph(exported(found.network, (6,), ("no", "yes")).data).run(
            {"x": rows.numpy()}, [PROBABILITIES]
        )
        np.testing.assert_allclose(answers[:, place], share, atol=1e-6)


def test_a_number_is_answered_in_the_unit_of_the_label(keras: Any, save: Save) -> None:
    model = small(keras, keras.layers.Dense(1), keras.layers.Rescaling(800.0, 4200.0))
    data, rows = save(model, ".keras"), rows_of((6,), 1, 20, 3).inputs
    found = fitted(data, "keras", (6,), frozen=["*"])

    (answers,) = open_graph(exported(found.network, (6,)).data).run({"x": rows.numpy()}, [PREDICTION])
    np.testing.assert_allclose(answers, model(rows).detach().numpy()[:, 0], rtol=1e-6)
    learned = Notebook()
    fitted(data, "keras", (6,), notebook=learned, epochs=15)
    assert min(learned.losses) < 0.8 * learned.losses[0]


def image(keras: Any) -> Any:
    """Branches, a shared layer, operators, normalisation and convolutions of several kinds."""
    layers = keras.layers
    rows = layers.Input((8, 8, 3))
    value = layers.Rescaling(1 / 3)(rows)
    value = layers.Conv2D(4, 3, strides=2, padding="same", use_bias=False, name="block_1")(value)
    value = layers.ReLU(6.0)(layers.BatchNormalization()(value))
    value = layers.Add()([value, layers.DepthwiseConv2D(3, padding="same", activation="gelu")(value)])
    value = layers.GlobalAveragePooling2D()(value) * 2.0
    return keras.Model(rows, layers.Softmax()(layers.Dense(3)(value)))


def sequence(keras: Any) -> Any:
    layers = keras.layers
    rows = layers.Input((5, 4))
    value = layers.LayerNormalization()(layers.MultiHeadAttention(2, 3)(rows, rows))
    return keras.Model(rows, layers.Dense(3)(layers.LSTM(4)(value)))


@pytest.mark.parametrize(("build", "shape"), [(image, (8, 8, 3)), (sequence, (5, 4))])
def test_graphs_of_layers_learn_on_and_are_served(keras: Any, save: Save, build: Any, shape: tuple[int, ...]) -> None:
    keras.utils.set_random_seed(2)
    notebook = Notebook()
    found = fitted(save(build(keras), ".keras"), "keras", shape, CLASSES, notebook, epochs=2)

    assert notebook.losses[1] != notebook.losses[0]
    assert exported(found.network, shape, CLASSES).difference < 1e-5


def test_rows_of_another_shape_are_refused(keras: Any, save: Save) -> None:
    data = save(image(keras), ".keras")
    for shape in ((3, 8, 8), (8, 8, 4)):
        with pytest.raises(NotLearnable, match=r"expected rows of shape \[8, 8, 3\], which it takes, got"):
            fitted(data, "keras", shape, CLASSES)
    with pytest.raises(
        NotLearnable, match=r"expected 4 outputs, one for each value of the label \(a, b, c, d\), got 3"
    ):
        fitted(data, "keras", (192,), (*CLASSES, "d"))
    with pytest.raises(NotLearnable, match="expected one output, the predicted number, got 3"):
        fitted(data, "keras", (192,))
    with pytest.raises(NotLearnable, match="got none for c"):
        fitted(data, "keras", (192,), CLASSES, classes=["a", "b", "d"])


def changed(data: bytes, change: Callable[[dict[str, Any]], Any]) -> bytes:
    """Return a .keras file with another config."""
    return rezipped(
        data, {"config.json": json.dumps(_with(json.loads(unzipped(data)["config.json"]), change)).encode()}
    )


def _with(config: dict[str, Any], change: Callable[[dict[str, Any]], Any]) -> dict[str, Any]:
    change(config)
    return config


def unzipped(data: bytes) -> dict[str, bytes]:
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        return {name: archive.read(name) for name in archive.namelist()}


def rezipped(data: bytes, more: dict[str, bytes], method: int = zipfile.ZIP_STORED) -> bytes:
    made = io.BytesIO()
    with zipfile.ZipFile(made, "w", method) as archive:
        for name, value in (unzipped(data) | more).items():
            archive.writestr(name, value)
    return made.getvalue()


def weights_with(data: bytes, change: Callable[[Any], Any]) -> bytes:
    """Return a .keras file with other weights."""
    made = io.BytesIO(unzipped(data)["model.weights.h5"])
    with h5py.File(made, "r+") as file:
        change(file)
    return rezipped(data, {"model.weights.h5": made.getvalue()})


def layer(place: int, **values: Any) -> Callable[[dict[str, Any]], Any]:
    return lambda config: config["config"]["layers"][place].update(values)


def setting(place: int, **values: Any) -> Callable[[dict[str, Any]], Any]:
    return lambda config: config["config"]["layers"][place]["config"].update(values)


def between(*layers: dict[str, Any]) -> Callable[[dict[str, Any]], Any]:
    """Put layers in the place of the third."""
    built_in = [{"module": "keras.layers", "registered_name": None, **each} for each in layers]
    return lambda config: config["config"]["layers"].__setitem__(slice(3, 4), built_in)


def replaced(file: Any, make: Callable[[Any, str], Any]) -> None:
    name = "layers/dense/vars/0"
    del file[name]
    make(file, name)


OWN = {"module": "builtins", "class_name": "function", "config": "os.system", "registered_name": "function"}
FAR = {"class_name": "RepeatVector", "config": {"name": "far", "n": 2**40}}
LAMBDA = {"class_name": "__lambda__", "config": {"value": "4wEAAAAA"}}
HOSTILE: list[tuple[str, Callable[[bytes], bytes]]] = [
    ("a pickle, which is never read", lambda data: b"\x80\x04\x95" + data),
    ("expected a .keras file", lambda data: b"GIF89a" + data),
    ("expected a whole zip archive", lambda data: data[: len(data) // 2]),
    ("nothing else, got", lambda data: rezipped(data, {"../../evil.py": b"1"})),
    ("nothing else, got", lambda data: rezipped(data, {"assets/vocabulary.txt": b"1"})),
    (
        "at most 16,777,216 bytes of config.json",
        lambda data: rezipped(data, {"config.json": b" " * 2**25}, zipfile.ZIP_DEFLATED),
    ),
    (
        "bytes of model.weights.h5, got more",
        lambda data: rezipped(data, {"model.weights.h5": bytes(2**25)}, zipfile.ZIP_DEFLATED),
    ),
    ("expected JSON", lambda data: rezipped(data, {"config.json": b"[" * 100_000})),
    ("expected a JSON object", lambda data: rezipped(data, {"config.json": b"[]"})),
    ("got 'Lambda': it holds code", lambda data: changed(data, layer(1, class_name="Lambda"))),
    ("got '__lambda__': it holds code", lambda data: changed(data, setting(1, activation=LAMBDA))),
    ("got 'function': it names a function of your own", lambda data: changed(data, setting(1, activation=OWN))),
    ("got 'TFSMLayer': it is not known", lambda data: changed(data, layer(1, class_name="TFSMLayer"))),
    ("got 'Dense' of 'os'", lambda data: changed(data, layer(1, module="os"))),
    ("expected a model that can be read, got TypeError", lambda data: changed(data, layer(1, module=["os"]))),
    ("registered as 'mine>Dense'", lambda data: changed(data, layer(1, registered_name="mine>Dense"))),
    (
        "expected a Sequential or Functional model, got 'Mine'",
        lambda data: changed(data, lambda config: config.update(class_name="Mine")),
    ),
    ("expected layers of float32, got 'float16'", lambda data: changed(data, setting(1, dtype="float16"))),
    ("expected weights for all layers", lambda data: changed(data, setting(4, units=2**40))),
    (
        "expected at most 16,777,216 values of a row",
        lambda data: changed(data, between(FAR, {"class_name": "GlobalAveragePooling1D", "config": {"name": "near"}})),
    ),
    ("expected a model that can be read", lambda data: changed(data, setting(1, units="many"))),
    (
        "got a link at",
        lambda data: weights_with(
            data, lambda file: replaced(file, lambda f, n: f.__setitem__(n, h5py.ExternalLink("/etc/passwd", "/")))
        ),
    ),
    (
        "got a link at",
        lambda data: weights_with(
            data, lambda file: replaced(file, lambda f, n: f.__setitem__(n, h5py.SoftLink("/layers")))
        ),
    ),
    (
        "fewer bytes than its shape has",
        lambda data: weights_with(
            data, lambda file: replaced(file, lambda f, n: f.create_dataset(n, (2**20, 2**20), "f4", chunks=(64, 64)))
        ),
    ),
    (
        "from another",
        lambda data: weights_with(
            data, lambda file: replaced(file, lambda f, n: f.create_dataset(n, (6, 8), "f4", external="/etc/passwd"))
        ),
    ),
    (
        "expected numbers at",
        lambda data: weights_with(data, lambda file: replaced(file, lambda f, n: f.create_dataset(n, data=["x"] * 48))),
    ),
    (
        "expected a model that can be read",
        lambda data: weights_with(
            data, lambda file: replaced(file, lambda f, n: f.create_dataset(n, data=np.zeros((6, 9), "f4")))
        ),
    ),
]


@pytest.mark.parametrize(("told", "spoil"), HOSTILE, ids=[f"{place} {told}" for place, (told, _) in enumerate(HOSTILE)])
def test_files_that_mean_no_good_are_refused_with_the_reason(
    keras: Any, save: Save, told: str, spoil: Callable[[bytes], bytes]
) -> None:
    with pytest.raises(NotLearnable) as refused:
        read_keras(spoil(save(small(keras), ".keras")))
    assert told in str(refused.value)


def test_layers_of_a_model_within_a_model_are_bounded_too(keras: Any, save: Save) -> None:
    layers = keras.layers

    def holding(*inside: Any, side: int | None = None) -> bytes:
        inner = keras.Sequential([layers.Input((side, side, 1)), *inside, layers.GlobalMaxPooling2D()])
        return save(keras.Sequential([layers.Input((64, 64, 1)), inner, layers.Dense(3)]), ".keras")

    for side in (64, None):
        assert read_keras(holding(layers.ZeroPadding2D(2), side=side)).outputs == 3
        with pytest.raises(NotLearnable, match="expected at most 16,777,216 values of a row behind a layer, got"):
            read_keras(holding(layers.ZeroPadding2D(2100), side=side))
    with pytest.raises(NotLearnable, match="expected layers that answer known shapes, got others of up_sampling2d"):
        read_keras(holding(layers.UpSampling2D(2)))


def test_what_a_model_was_compiled_with_is_not_built(keras: Any, save: Save) -> None:
    def own(truth: Any, answers: Any) -> Any:
        return keras.ops.mean(abs(truth - answers))

    inner = small(keras, keras.layers.Dense(4))
    inner.compile("adam", own)
    model = keras.Sequential([keras.layers.Input((6,)), inner, keras.layers.Dense(3)])
    model.compile(keras.optimizers.SGD(), own)
    rows = torch.zeros((2, 6))
    expected = model(rows)

    for suffix in (".keras", ".h5"):
        assert torch.allclose(read_keras(save(model, suffix)).eval()(rows), expected)
    held = {"optimizer": {"module": "keras.layers", "class_name": "Lambda", "config": {"function": LAMBDA}}}
    read_keras(changed(save(model, ".keras"), lambda config: config.update(compile_config=held)))


def test_a_config_too_deep_to_look_at_is_refused(keras: Any, save: Save) -> None:
    data = save(small(keras), ".keras")
    for levels in (300, 600, 900, 5000):
        deep = b'{"class_name": "Sequential", "config": ' + b"[" * levels + b"]" * levels + b"}"
        with pytest.raises(NotLearnable):
            read_keras(rezipped(data, {"config.json": deep}))


def test_an_image_of_no_size_is_refused(keras: Any, save: Save) -> None:
    with pytest.raises(NotLearnable, match="expected an input of a known shape"):
        read_keras(changed(save(image(keras), ".keras"), setting(0, batch_shape=[None, 0, 8, 3])))


def test_weights_alone_are_no_model(keras: Any, tmp_path: Path) -> None:
    path = tmp_path / "some.weights.h5"
    small(keras).save_weights(path)
    with pytest.raises(NotLearnable, match="expected a whole model, got weights alone"):
        read_keras(path.read_bytes())


def test_a_circle_of_groups_ends(keras: Any, save: Save) -> None:
    def circle(file: Any) -> None:
        file["layers/again"] = file["/"]

    assert read_keras_file(weights_with(save(small(keras), ".keras"), circle)).numbers > 0


def test_a_file_that_its_reader_never_ends_with_is_given_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hdf5, "_CPU_S", 1)
    path = tmp_path / "loop.h5"
    with h5py.File(path, "w") as file:
        file.attrs["model_config"] = "{}" * 50
    data = bytearray(path.read_bytes())
    # The size of a text in the global heap: the library looks for its end for ever.
    data[data.find(b"GCOL") + 24] ^= 0x85
    with pytest.raises(NotLearnable, match="got a file that ends its reader, by -"):
        read_keras(bytes(data))
