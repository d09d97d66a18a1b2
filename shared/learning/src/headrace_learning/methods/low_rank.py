"""Matrix products of low rank: two thin products in the place of one, where the rows leave most directions unused.

Weights W, [inputs, outputs], become A B of rank r such that the answers x W change least over the rows x of the
training split: with the Cholesky factor L of their second moments, X'X = L L', the best are those of the singular
values of L' W, after Wang et al., "SVD-LLM" (2024, arXiv 2403.07378), section 3.1. The share of their squares that is
left out is the share of theirs that the product's answers lose.

A product changes where that takes fewer weights and less time: where r < m n / (m + n).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Final

import numpy as np
import numpy.typing as npt
import onnx
from headrace_data.spec import LowRankVariant
from headrace_engines.beside import Graph
from onnx import helper, numpy_helper

from headrace_learning.graphs import Columns
from headrace_learning.large import as_graph, folder_of, structure_of
from headrace_learning.methods.method import Made, Method, NotApplicable, Source
from headrace_learning.methods.observing import Observed
from headrace_learning.methods.products import Matrix, Product, products, rewritten

_MOST_BYTES: Final = 256 * 2**20
"""What the second moments may take that are summed at once."""
_DAMPING: Final = 1e-6
"""Share of the mean of the moments' diagonal that is added to it, so that directions without rows have a factor."""
Wide = npt.NDArray[np.float64]


def factorise(source: Source, section: LowRankVariant) -> Made | NotApplicable:
    """Return the graph with products of low rank where that makes them smaller.

    Equal graphs and rows give equal bytes. Not applicable without training rows, and where no product gains.
    """
    model = structure_of(source.graph)
    found = [each for each in products(model.graph, folder_of(source.graph)) if min(each.weights.shape) > 1]
    rows = source.calibration.rows(section.rows)
    if not rows:
        return NotApplicable("low-rank: expected rows of the training split to calibrate on, got none")
    factors: dict[str, tuple[Matrix, Matrix]] = {}
    told: dict[str, str] = {}
    for some in _at_once(found):
        moments = _moments(source.graph, some, rows)
        for product in some:
            thin = _factors(product.weights.T.astype(np.float64), moments[product.name], section)
            if thin is not None:
                factors[product.name] = thin
                told[f"rank {product.node.name}"] = f"{thin[0].shape[1]} of {min(product.weights.shape)}"
    if not factors:
        return NotApplicable(
            f"low-rank: expected a matrix product (MatMul, Gemm) of which fewer weights keep {_share(section)}, "
            f"got none of {len(found)}"
        )
    return Made(_written(model, factors, folder_of(source.graph)), source.calibration.told(rows) | told)


def _share(section: LowRankVariant) -> str:
    return f"a rank of {section.rank}" if section.rank else f"{section.energy:.6g} of what it answers"


def _at_once(found: Sequence[Product]) -> Iterator[list[Product]]:
    """Yield products in turns of which the second moments fit into memory."""
    some: list[Product] = []
    for product in found:
        some.append(product)
        if sum(8 * min(each.weights.shape) ** 2 for each in some) > _MOST_BYTES:
            yield some
            some = []
    if some:
        yield some


def _moments(graph: Graph, found: Sequence[Product], rows: Columns) -> Mapping[str, Wide]:
    """Return the second moments of products by name: of their rows, or of their answers where these are no more.

    What is added to a product is not among its answers.
    """
    sums: dict[str, Wide] = {}
    for tensors in Observed(graph, [each.node.input[0] for each in found]).runs(rows):
        for product in found:
            outputs, inputs = product.weights.shape
            values = tensors[product.node.input[0]].reshape(-1, inputs)
            values = values[np.isfinite(values).all(axis=1)]
            wide = (values @ product.weights.T if outputs <= inputs else values).astype(np.float64)
            sums[product.name] = sums[product.name] + wide.T @ wide if product.name in sums else wide.T @ wide
    return sums


def _factors(weights: Wide, moments: Wide, section: LowRankVariant) -> tuple[Matrix, Matrix] | None:
    """Return the factors of weights, [inputs, rank] and [rank, outputs]; None where they would be no smaller."""
    inputs, outputs = weights.shape
    squares, down, up = _directions(weights, moments)
    if not squares.size or squares[0] <= 0:
        return None
    kept = np.cumsum(squares) / squares.sum()
    rank = section.rank or int(np.searchsorted(kept, section.energy)) + 1
    if not 0 < rank < inputs * outputs / (inputs + outputs):
        return None
    # Each factor is given the half of how much a direction matters: numbers of about one size are rounded best.
    halves = np.maximum(squares[:rank] / squares[0], np.finfo(np.float32).eps) ** 0.25
    return (down[:, :rank] / halves).astype(np.float32), (halves[:, np.newaxis] * up[:rank]).astype(np.float32)


def _directions(weights: Wide, moments: Wide) -> tuple[Wide, Wide, Wide]:
    """Return the squares of the singular values of L' W, most first, and A and B of full rank.

    The columns of A are answers in the directions of B, whose rows have a length of 1. Where there are no more outputs
    than inputs `moments` are those of the answers, whose directions they are, and A is W B'.
    """
    inputs, outputs = weights.shape
    if outputs <= inputs:
        squares, directions = _largest_first(moments)
        return squares, weights @ directions, directions.T
    damping = _DAMPING * float(np.trace(moments)) / inputs
    if damping <= 0:
        return np.empty(0), weights, weights
    root = np.linalg.cholesky(moments + damping * np.eye(inputs))
    white = root.T @ weights
    squares, directions = _largest_first(white @ white.T)
    lengths: Wide = np.sqrt(np.maximum(squares, np.finfo(np.float64).tiny))
    down: Wide = np.linalg.solve(root.T, directions) * lengths
    return squares, down, directions.T @ white / lengths[:, np.newaxis]


def _largest_first(matrix: Wide) -> tuple[Wide, Wide]:
    values, vectors = np.linalg.eigh(matrix)
    return np.maximum(values[::-1], 0), vectors[:, ::-1]


def _written(model: onnx.ModelProto, factors: Mapping[str, tuple[Matrix, Matrix]], folder: Path | None) -> Graph:
    nodes: list[onnx.NodeProto] = []
    constants: list[onnx.TensorProto] = []
    for node in model.graph.node:
        name = "".join(node.input[1:2])
        if name not in factors:
            nodes.append(node)
            continue
        names, between = [f"{name}/down", f"{name}/up"], f"{node.output[0]}/thin"
        constants += [numpy_helper.from_array(each, new) for each, new in zip(factors[name], names, strict=True)]
        nodes.append(helper.make_node(node.op_type, [node.input[0], names[0]], [between], f"{node.name}/down"))
        nodes.append(helper.make_node(node.op_type, [between, names[1], *node.input[2:]], node.output, node.name))
    rewritten(model, nodes, factors, constants)
    return as_graph(model, folder)


METHOD: Final = Method(factorise)
