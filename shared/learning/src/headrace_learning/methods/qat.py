"""Quantisation-aware training: a version learns on while its numbers are rounded as `int8-static` rounds them.

Jacob et al., "Quantization and Training of Neural Networks for Efficient Integer-Arithmetic-Only Inference" (CVPR
2018), section 3: normalisation is folded first, weights and activations are rounded on the way forward, and the
gradient passes as if they were not (the straight-through estimator of Bengio, Leonard and Courville, 2013), but where a
number lies beyond its range. Ranges are those that `int8-static` finds, and stay; weights have 7 bits and a scale for
each output, which follows them, and sums begin with whole numbers of their steps. What was learned is written by the
writer of `int8-static`, in the same ranges.

It has to earn its training: where `int8-static` answers the validation split better, there is no variant.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Final

import torch
from headrace_data.errors import DataError
from headrace_data.spec import AwareVariant, StaticVariant
from headrace_engines.beside import Graph
from torch import nn
from torch.nn.utils import parametrize
from torch.nn.utils.fusion import fuse_conv_bn_eval

from headrace_learning.errors import LearningError, NotLearnable
from headrace_learning.families.family import Sources
from headrace_learning.families.network import learn
from headrace_learning.methods.int8_static import apart, quantise_static, ranges_of
from headrace_learning.methods.lessons import Lesson, lesson_of, one_thread, unfit
from headrace_learning.methods.method import Made, Method, NotApplicable, Source
from headrace_learning.methods.observing import Fidelity
from headrace_learning.methods.qdq import SEVEN_BITS, STEPS, Layer, Ranges, layers_of, quantised, steps_of
from headrace_learning.training.randomness import seed_weights

_KINDS: Final = ("mlp", "cnn", "residual")
"""Networks whose layers are where the graph has them."""
_BEFORE, _BEHIND = "weights/network.", ".weight"
"""What a graph calls a layer's weights, around the layer's name."""


def _make(source: Source, section: AwareVariant) -> Made | NotApplicable:
    training = source.training
    if training is None or training.weights is None:
        return NotApplicable("qat: expected a version whose weights and training rows can be read, got its graph")
    kind = training.pipeline.train.network.kind
    if kind not in _KINDS:
        return NotApplicable(f"qat: expected a network of kind {', '.join(_KINDS)}, got {kind}")
    if reason := unfit(source.graph, training):
        return NotApplicable(f"qat: expected {reason}")
    plain = StaticVariant(kind="int8-static", calibrate=section.calibrate, rows=section.rows)
    static = quantise_static(source, plain)
    if isinstance(static, NotApplicable):
        return NotApplicable(f"qat: expected a version to which int8-static applies, got {static.reason}")
    try:
        with one_thread():
            return _aware(source, lesson_of(training, kind), section, static.graph)
    except (LearningError, DataError) as error:
        return NotApplicable(f"qat: expected a network that can be learned on, got: {error}")


def _aware(source: Source, lesson: Lesson, section: AwareVariant, static: Graph) -> Made | NotApplicable:
    """Learn on with rounded numbers, and return what was learned where it answers no worse than int8-static."""
    network = _folded(lesson.version().eval())
    rows = source.calibration.rows(section.rows)
    graph = lesson.exported(network)
    layers = layers_of(graph)
    shown, held = apart(rows)
    found = ranges_of(graph, layers, shown, Fidelity(graph, held), section.calibrate, quantised)
    network_section = lesson.training.pipeline.train.network
    train = lesson.settings(network_section, section.epochs, section.budget, rate=section.rate)
    rounding = [_round(network, layer, found.ranges) for layer in layers]
    seed_weights(train.seed)
    sources, run = Sources(lesson.rows, lesson.validation), lesson.run(train, "qat")
    fitted = learn(network, sources, lesson.learned.objective, run)
    for each in rounding:
        each.end()
    learned = lesson.exported(network.eval())
    made = quantised(learned, layers_of(learned), found.ranges)
    own, other = lesson.score(made), lesson.score(static)
    if own.task.headline.worse(own.quality, other.quality):
        return NotApplicable(
            f"qat: expected answers no worse than those of int8-static, which has {other}, on "
            f"{len(lesson.validation):,} rows of the validation split; got {own}"
        )
    told = {
        "ranges": found.how,
        "quantised": f"{len(layers)} of {len(layers)}",
        "seed": str(train.seed),
        "epochs": str(fitted.outcome.epochs),
        "learned": f"{own} on the validation split",
        "int8_static": str(other),
        "torch": torch.__version__,
    }
    return Made(made, source.calibration.told(rows) | told)


def _folded(network: nn.Module) -> nn.Module:
    """Fold each normalisation into the convolution before it, as the graph of int8-static has it."""
    for module in network.modules():
        if not isinstance(module, nn.Sequential):
            continue
        for place in range(1, len(module)):
            convolution, norm = module[place - 1], module[place]
            if isinstance(convolution, nn.Conv2d) and isinstance(norm, nn.BatchNorm2d):
                module[place - 1], module[place] = fuse_conv_bn_eval(convolution, norm), nn.Identity()
    return network


class _Numbers(nn.Module):
    """Weights as whole numbers of 7 bits times a scale for each output, as they are written."""

    def forward(self, weights: torch.Tensor) -> torch.Tensor:
        scales = _scales(weights)
        zeros = torch.zeros_like(scales, dtype=torch.int32)
        return torch.fake_quantize_per_channel_affine(weights, scales, zeros, 0, -SEVEN_BITS, SEVEN_BITS)


class _Begun(nn.Module):
    """What sums begin with, as whole numbers of a product's steps: the weights' scales times an activation's."""

    def __init__(self, weights: Callable[[], torch.Tensor], step: float) -> None:
        super().__init__()
        self._weights, self._step = weights, step

    def forward(self, bias: torch.Tensor) -> torch.Tensor:
        steps = _scales(self._weights()) * self._step
        return bias + (torch.round(bias / steps) * steps - bias).detach()


def _scales(weights: torch.Tensor) -> torch.Tensor:
    largest = weights.detach().abs().amax(dim=tuple(range(1, weights.dim())))
    return largest.clamp(min=torch.finfo(torch.float32).tiny * SEVEN_BITS) / SEVEN_BITS


class _Rounding:
    """A layer that is rounded until `end`."""

    def __init__(
        self, module: Any, value: tuple[float, float], leaves: tuple[float, float] | None, *, begins: bool
    ) -> None:
        self._module = module
        self._rounded = ["weight", "bias"] if begins else ["weight"]
        parametrize.register_parametrization(module, "weight", _Numbers())
        if begins:
            begun = _Begun(lambda: module.parametrizations.weight.original, steps_of(*value)[0])
            parametrize.register_parametrization(module, "bias", begun)
        self._hooks = [module.register_forward_pre_hook(lambda _, given: (_rounded(given[0], value),))]
        if leaves is not None:
            # Where a Relu follows, 0 is the lowest of its range: it has nothing to do any more.
            self._hooks.append(module.register_forward_hook(lambda _, __, answer: _rounded(answer, leaves)))

    def end(self) -> None:
        """Leave the layer with what it has learned."""
        for hook in self._hooks:
            hook.remove()
        for name in self._rounded:
            parametrize.remove_parametrizations(self._module, name, leave_parametrized=False)


def _rounded(values: torch.Tensor, within: tuple[float, float]) -> torch.Tensor:
    scale, zero = steps_of(*within)
    return torch.fake_quantize_per_tensor_affine(values, scale, zero, 0, STEPS)


def _round(network: nn.Module, layer: Layer, ranges: Ranges) -> _Rounding:
    """Round the module that stands behind a layer of the graph."""
    name = layer.node.input[1]
    modules: Mapping[str, Any] = dict(network.named_modules())
    module = modules.get(name.removeprefix(_BEFORE).removesuffix(_BEHIND))
    if not isinstance(module, nn.Linear | nn.Conv2d):
        raise NotLearnable(f"a layer of the network behind each of the graph is expected, got weights {name}")
    leaves = ranges[layer.leaves] if layer.leaves else None
    return _Rounding(module, ranges[layer.value], leaves, begins=layer.bias is not None and not layer.apart)


METHOD = Method(_make)
