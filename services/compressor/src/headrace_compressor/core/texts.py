"""What the variants of a model of language are measured by: the file in the engine that serves it."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack
from itertools import islice
from typing import Final

import numpy as np
from headrace_data.tasks import GREEDY_AGREEMENT, LATENCY, P99, SIZE, TASKS, Differences, Groups
from headrace_engines.beside import Graph, own_bytes
from headrace_learning.evaluation import Labelled
from headrace_learning.language_models.generating import (
    ANSWERED_ROWS,
    MOST_TOKENS,
    TextAnswerer,
    agreement,
    answered,
    open_generator,
    step_times_ms,
)
from headrace_learning.language_models.gguf_files import bytes_of_tokens

_TURNS: Final = 3
"""How often variants take turns while their times are taken."""
_TIMED: Final = 2
"""Prompts that are answered in each turn."""


def measure(graphs: Mapping[str, Graph], rows: Labelled) -> Iterator[tuple[str, dict[str, float]]]:
    """Yield each variant's name and measurements, the first being the reference that the others are compared with.

    Measurements: size_bytes, of an adapter without its base; latency_ms_batch_1 and latency_p99_ms_batch_1, median and
    99th percentile over answers to one caller of the mean time from one token to the next, taken in turns; the measures
    of the task; difference_error, as `Differences` says; and greedy_agreement, the share of the tokens of the
    reference's greedy answers that each finds likeliest too.
    """
    with ExitStack() as stack:
        found: dict[str, TextAnswerer] = {}
        for name, graph in graphs.items():
            found[name] = TextAnswerer(graph, open_generator(graph))
            stack.callback(found[name].close)
        first = next(iter(found.values()))
        columns, truth = next(iter(rows))
        prompts = first.prompts(columns, min(len(truth), ANSWERED_ROWS))
        reference = [answered(first.generator, prompt, MOST_TOKENS) for prompt in prompts]
        times = _times(list(found.values()), prompts)
        differences, part = Differences(TASKS["generation"]), bytes_of_tokens(next(iter(graphs.values())))
        for place, (name, answerer) in enumerate(found.items()):
            agreed = agreement(reference, prompts, answerer.generator, part) if place else 1.0
            yield (
                name,
                {
                    SIZE: float(own_bytes(graphs[name])),
                    **times[place],
                    **_quality(answerer, rows, differences),
                    GREEDY_AGREEMENT: agreed,
                },
            )


def _quality(answerer: TextAnswerer, rows: Labelled, differences: Differences) -> dict[str, float]:
    scores, groups = answerer.scores(), Groups(answerer.task, answerer.scores)
    for columns, truth in rows:
        answers = answerer.answers(columns, truth)
        scores.add(answers, truth)
        groups.add(answers, truth)
    return scores.quality() | differences.of(groups)


def _times(found: Sequence[TextAnswerer], prompts: Sequence[str]) -> list[dict[str, float]]:
    """Return what each takes for a token, in turns, so that ratios hold on a busy machine."""
    times: list[list[float]] = [[] for _ in found]
    for turn in range(_TURNS):
        for place, answerer in enumerate(found):
            some = list(islice(prompts, turn * _TIMED, (turn + 1) * _TIMED)) or prompts[:_TIMED]
            times[place] += step_times_ms(answerer.generator, some)
    # A model that ends each answer with its first token takes no time between two.
    return [{LATENCY: float(np.median(each)), P99: float(np.percentile(each, 99))} if each else {} for each in times]
