"""Rows that are changed while training: always alike for the same seed, and none but those that are learned from."""

from typing import Any

import pytest
import torch
from headrace_data.spec import Augment, MlpNetwork, Optimizer, Pipeline, SpecInvalid, Train, load_pipeline
from headrace_learning.families.mlp import mlp
from headrace_learning.networks import weights_of
from headrace_learning.training.augmenting import augmented
from headrace_learning.training.checkpoint import Checkpoint, from_bytes, to_bytes
from headrace_learning.training.loop import Training
from headrace_learning.training.objectives import Classification
from headrace_learning.training.randomness import seed_weights
from headrace_learning.training.rows import Rows
from torch.utils._python_dispatch import TorchDispatchMode


class Notebook:
    """Keeps a checkpoint each time that it is asked for, also within an epoch."""

    def __init__(self, taken: Checkpoint | None = None) -> None:
        self.taken = taken
        self.kept: list[Checkpoint] = []
        self.losses: list[float] = []

    def newest(self, subject: str) -> Checkpoint | None:
        return self.taken

    def due(self, *, midway: bool) -> bool:
        return True

    def save(self, checkpoint: Checkpoint) -> None:
        self.kept.append(checkpoint)

    def progress(self, step: int, steps: int, metrics: Any, eta_s: float) -> None:
        self.losses.append(metrics["validation_loss"])


def rows(count: int, seed: int) -> Rows:
    inputs = torch.randn(count, 3, generator=torch.Generator().manual_seed(seed))
    return Rows(inputs, (inputs[:, 0] > 0).long())


def trained(augment: Augment | None, taken: Checkpoint | None = None) -> tuple[dict[str, torch.Tensor], Notebook]:
    optimizer = Optimizer(learning_rate=0.02)
    network = MlpNetwork(kind="mlp", hidden=(8,))
    settings = Train(network=network, optimizer=optimizer, epochs=4, batch_size=16, seed=3, augment=augment)
    notebook = Notebook(taken)
    seed_weights(settings.seed)
    module = mlp(3, (8,), 2)
    Training(module, settings, Classification(), rows(70, 1), rows(40, 2), "s", notebook, notebook).run()
    return weights_of(module), notebook


def alike(one: dict[str, torch.Tensor], other: dict[str, torch.Tensor]) -> bool:
    return all(torch.equal(tensor, other[name]) for name, tensor in one.items())


BOTH = Augment(noise=0.1, mixup=0.4)


@pytest.mark.parametrize("augment", [Augment(noise=0.1), Augment(mixup=0.4), BOTH])
def test_the_same_seed_changes_rows_alike(augment: Augment) -> None:
    weights, _ = trained(augment)

    assert alike(weights, trained(augment)[0])
    assert not alike(weights, trained(None)[0])


def test_a_run_that_goes_on_ends_as_one_that_was_never_stopped() -> None:
    weights, notebook = trained(BOTH)
    (midway,) = (each for each in notebook.kept if each.midway and (each.epoch, each.midway.batches) == (2, 3))
    tensors, sidecar = to_bytes(midway)

    assert alike(trained(BOTH, from_bytes(tensors, sidecar))[0], weights)


def test_what_changes_nothing_trains_as_without() -> None:
    assert alike(trained(Augment())[0], trained(None)[0])


def test_rows_are_mixed_in_the_shares_of_their_labels() -> None:
    given = rows(50, 5)
    mixed = augmented(given, Augment(mixup=1.0), 1, 2, 3)
    (share, first), (rest, second) = mixed.parts

    assert share + rest == pytest.approx(1)
    assert torch.equal(first, given.targets)
    assert sorted(second.tolist()) == sorted(given.targets.tolist())
    # The mean of all rows stays, whoever is mixed with whom.
    torch.testing.assert_close(mixed.inputs.mean(dim=0), given.inputs.mean(dim=0))
    assert torch.equal(mixed.inputs, augmented(given, Augment(mixup=1.0), 1, 2, 3).inputs)
    for other in ((2, 2, 3), (1, 3, 3), (1, 2, 4)):
        assert not torch.equal(mixed.inputs, augmented(given, Augment(mixup=1.0), *other).inputs)


def test_noise_has_the_deviation_that_was_asked_for() -> None:
    given = rows(20_000, 5)
    noise = augmented(given, Augment(noise=0.25), 1, 1, 0).inputs - given.inputs

    assert float(noise.std()) == pytest.approx(0.25, rel=0.02)
    assert float(noise.mean()) == pytest.approx(0, abs=0.01)


def images(augment: Augment, count: int = 400) -> tuple[torch.Tensor, torch.Tensor]:
    """Return images before and after: one bright pixel in each of 2 channels, 5 x 7."""
    given = torch.zeros(count, 2, 5, 7)
    given[:, :, 2, 1] = 1.0
    return given, augmented(Rows(given, torch.zeros(count).long()), augment, 1, 1, 0).inputs


def test_half_of_the_images_are_mirrored() -> None:
    given, found = images(Augment(flip=True))

    mirrored = (found == given.flip(-1)).flatten(1).all(dim=1)
    assert 0.4 < float(mirrored.float().mean()) < 0.6
    assert torch.equal(found[~mirrored], given[~mirrored])


def test_images_are_moved_both_ways_and_channels_together() -> None:
    _, found = images(Augment(shift=1))

    assert torch.equal(found[:, 0], found[:, 1])
    places = {tuple(place) for place in found[:, 0].nonzero()[:, 1:].tolist()}
    assert places == {(row, column) for row in (1, 2, 3) for column in (0, 1, 2)}
    assert float(images(Augment(shift=3))[1].sum(dim=(1, 2, 3)).min()) == 0.0


def test_images_that_may_be_moved_far_take_no_more_room() -> None:
    largest = 0

    class Sizes(TorchDispatchMode):
        def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
            nonlocal largest
            made = func(*args, **(kwargs or {}))
            largest = max(largest, made.numel() if isinstance(made, torch.Tensor) else 0)
            return made

    with Sizes():
        given, found = images(Augment(shift=1024), count=16)

    assert found.shape == given.shape
    assert largest == given.numel()


@pytest.mark.parametrize(("shape", "side", "shift"), [("[28, 20]", 20, 20), ("[3, 16, 28]", 16, 1024)])
def test_images_that_may_be_moved_out_of_sight_are_refused(shape: str, side: int, shift: int) -> None:
    document = """
apiVersion: headrace/v1
kind: Pipeline
metadata: {name: images}
stream:
  topic: images
  schema:
    - {name: id, type: int64, role: id}
    - {name: image, type: float32, shape: SHAPE, role: feature}
    - {name: y, type: string, role: label}
train: {network: {kind: cnn}, augment: {shift: SHIFT}}
""".replace("SHAPE", shape)

    assert load_pipeline(document.replace("SHIFT", str(side - 1))).train.augment == Augment(shift=side - 1)
    with pytest.raises(SpecInvalid, match=f"train.augment.shift: expected less than {side} pixels .* got {shift}$"):
        load_pipeline(document.replace("SHIFT", str(shift)))


def test_a_rectangle_is_erased() -> None:
    full = Rows(torch.ones(400, 2, 10, 20), torch.zeros(400).long())
    found = augmented(full, Augment(erase=0.5), 1, 1, 0).inputs

    holes = found == 0
    heights, widths = (holes[:, 0].any(dim=axis).sum(dim=1) for axis in (2, 1))
    assert torch.equal(holes[:, 0], holes[:, 1])
    assert torch.equal(holes[:, 0].sum(dim=(1, 2)), heights * widths)
    assert int(heights.max()) == 5
    assert int(widths.max()) == 10
    assert holes[:, 0].any(dim=0).all()


def test_a_band_of_each_kind_is_masked() -> None:
    full = Rows(torch.ones(400, 2, 10, 20), torch.zeros(400).long())
    found = augmented(full, Augment(mask=0.3), 1, 1, 0).inputs

    holes = found == 0
    assert torch.equal(holes[:, 0], holes[:, 1])
    down, across = holes[:, 0].all(dim=2), holes[:, 0].all(dim=1)
    assert torch.equal(holes[:, 0], down[:, :, None] | across[:, None, :])
    assert int(down.sum(dim=1).max()) == 3
    assert int(across.sum(dim=1).max()) == 6
    for bands in (down, across):
        # One band: it begins once at most.
        begins = (bands[:, 1:] & ~bands[:, :-1]).sum(dim=1) + bands[:, 0].int()
        assert int(begins.max()) == 1
        assert bands.any(dim=0).all()


def test_what_has_no_channels_is_changed_as_an_image_of_one() -> None:
    given = torch.rand(50, 10, 20, generator=torch.Generator().manual_seed(1))
    for augment in (Augment(mask=0.3, shift=2), Augment(flip=True, rotate=20), Augment(erase=0.5)):
        plain, image = (
            augmented(Rows(inputs, torch.zeros(50).long()), augment, 1, 1, 0).inputs
            for inputs in (given, given[:, None])
        )
        assert torch.equal(plain, image[:, 0])
        assert not torch.equal(plain, given)


def test_sequences_are_moved_later_and_earlier_with_all_their_values() -> None:
    given = torch.arange(1.0, 13.0).reshape(6, 2).expand(400, 6, 2)
    found = augmented(Rows(given, torch.zeros(400).long()), Augment(time_shift=2), 1, 1, 0).inputs

    expected = {
        later: torch.cat([torch.zeros(2, 2), given[0], torch.zeros(2, 2)])[2 - later : 8 - later]
        for later in range(-2, 3)
    }
    seen = [next(later for later, row in expected.items() if torch.equal(row, one)) for one in found]
    assert {later for later in expected if 40 < seen.count(later) < 120} == set(expected)
    again = augmented(Rows(given, torch.zeros(400).long()), Augment(time_shift=2), 1, 2, 0).inputs
    assert not torch.equal(found, again)


def test_images_are_turned_about_their_centres_in_pixels() -> None:
    given = torch.zeros(300, 1, 9, 15)
    given[:, 0, 1, 7] = 1.0
    found = augmented(Rows(given, torch.zeros(300).long()), Augment(rotate=90), 1, 1, 0).inputs[:, 0]

    # The pixel goes about the centre at the distance that it had, as far as 90 degrees either way.
    down, across = torch.arange(9)[:, None] - 4.0, torch.arange(15) - 7.0
    mass = found.sum(dim=(1, 2))
    x, y = (found * across).sum(dim=(1, 2)) / mass, (found * down).sum(dim=(1, 2)) / mass
    torch.testing.assert_close(torch.hypot(x, y), torch.full((300,), 3.0), atol=0.2, rtol=0)
    assert float(y.max()) < 0.2
    assert float(x.min()) < -2.5
    assert float(x.max()) > 2.5
    torch.testing.assert_close(mass, torch.ones(300), atol=0.25, rtol=0)


def test_each_row_is_amplified_as_a_whole() -> None:
    given = rows(5_000, 5)
    found = augmented(given, Augment(gain=0.3), 1, 1, 0).inputs / given.inputs

    torch.testing.assert_close(found[:, :1].expand(-1, 3), found)
    assert 0.7 <= float(found.min()) < 0.71
    assert 1.29 < float(found.max()) <= 1.3001


def test_a_spec_says_how_much() -> None:
    document = """
apiVersion: headrace/v1
kind: Pipeline
metadata: {name: rows}
stream:
  topic: rows
  schema:
    - {name: id, type: int64, role: id}
    - {name: x, type: float64, role: feature}
    - {name: y, type: string, role: label}
train: {network: {kind: mlp}AUGMENT}
"""
    plain = load_pipeline(document.replace("AUGMENT", ""))
    changed = load_pipeline(document.replace("AUGMENT", ", augment: {noise: 0.1}"))

    assert b"augment" not in plain.canonical_json()
    assert changed.train.augment == Augment(noise=0.1)
    assert changed.digest != plain.digest
    with pytest.raises(SpecInvalid, match=r"train\.augment\.noise"):
        load_pipeline(document.replace("AUGMENT", ", augment: {noise: -1}"))
    with pytest.raises(SpecInvalid, match=r"train\.augment\.flip: expected a network of kind cnn or residual"):
        load_pipeline(document.replace("AUGMENT", ", augment: {flip: true}"))
    own = document.replace("kind: mlp", "kind: python, factory: 'acme.nets:f'")
    expected = r"python expects one feature of shape \[height, width\] or \[channels, height, width\] for it"
    with pytest.raises(SpecInvalid, match=expected):
        load_pipeline(own.replace("AUGMENT", ", augment: {flip: true}"))
    image = own.replace("float64, role", "float64, shape: [3, 8, 8], role")
    assert load_pipeline(image.replace("AUGMENT", ", augment: {flip: true}")).train.augment == Augment(flip=True)


@pytest.mark.parametrize(
    ("network", "shape", "steps", "told"),
    [
        ("mlp", "[8, 3]", 2, "expected a network of kind python, which is told the steps of a sequence, got mlp"),
        ("cnn", "[8, 3]", 2, "expected a network of kind python, which is told the steps of a sequence, got cnn"),
        ("python", "[3]", 2, r"expected one feature of shape \[steps, values\] for it, got \[\[3\]\]"),
        ("python", "[2, 8, 3]", 2, r"expected one feature of shape \[steps, values\] for it, got \[\[2, 8, 3\]\]"),
        ("python", "[8, 3]", 8, "expected less than 8 steps for sequences of 8 steps, got 8"),
    ],
)
def test_steps_are_moved_where_a_network_is_told_them(network: str, shape: str, steps: int, told: str) -> None:
    document = """
apiVersion: headrace/v1
kind: Pipeline
metadata: {name: sequences}
stream:
  topic: sequences
  schema:
    - {name: id, type: int64, role: id}
    - {name: x, type: float32, shape: SHAPE, role: feature}
    - {name: y, type: string, role: label}
train: {network: {kind: KIND}, augment: {timeShift: STEPS}}
"""

    def load(kind: str, shape: str, steps: int) -> Pipeline:
        kind += ", factory: 'acme.nets:f'" if kind == "python" else ""
        return load_pipeline(document.replace("SHAPE", shape).replace("KIND", kind).replace("STEPS", str(steps)))

    assert load("python", "[8, 3]", 7).train.augment == Augment(time_shift=7)
    with pytest.raises(SpecInvalid, match=f"train.augment.timeShift: {told}$"):
        load(network, shape, steps)
