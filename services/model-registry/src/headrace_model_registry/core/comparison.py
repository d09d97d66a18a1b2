"""A candidate beside the champion on the same rows: the test splits of both."""

from collections.abc import Sequence
from dataclasses import dataclass

from headrace_data.tasks import Achieved, Measure, joined

from headrace_model_registry.core.facts import Evaluation


@dataclass(frozen=True, slots=True)
class Comparison:
    """What candidate and champion achieve on the same rows, by dataset id in `rows`."""

    candidate: Achieved
    champion: Achieved
    rows: tuple[tuple[str, int], ...]

    @property
    def worse(self) -> bool:
        """Whether the candidate answers worse."""
        return self.candidate.worse_than(self.champion)

    @property
    def tied(self) -> bool:
        """Whether both answer equally well: the version that has seen newer data wins then."""
        return not self.worse and not self.champion.worse_than(self.candidate)


def compare(
    evaluations: Sequence[Evaluation],
    together: Sequence[Evaluation],
    candidate_id: str,
    champion_id: str,
    dataset_ids: Sequence[str],
    measure: Measure,
) -> Comparison | str:
    """Return what both versions achieve over the union of the datasets' test splits, or what is missing for it.

    Each dataset counts once and by its rows, so what is added up are amounts, such as counts of right answers or sums
    of squared errors: a mean of the datasets' accuracies would let ten rows outvote ten thousand. By a measure that
    does not add up, what was measured on the splits `together` is compared.
    """
    datasets = list(dict.fromkeys(dataset_ids))
    if measure.adds_up is None and len(datasets) > 1:
        evaluations, datasets = together, [""]
    measured = {(each.version_id, each.dataset_id): each for each in evaluations}
    rows: list[tuple[str, int]] = []
    found: dict[str, list[Achieved]] = {candidate_id: [], champion_id: []}
    for dataset_id in datasets:
        counts: set[int] = set()
        for version_id, parts in found.items():
            evaluation = measured.get((version_id, dataset_id))
            if evaluation is None or measure.name not in evaluation.metrics:
                return f"the {measure.name} of version {version_id} on {_named(dataset_id)} was not measured"
            value = evaluation.metrics[measure.name]
            if expected := measure.expected(value):
                told = f"the {measure.name} of version {version_id} on {_named(dataset_id)} is {value}"
                return f"{told}, expected {expected}"
            parts.append(Achieved(measure, value, evaluation.rows))
            counts.add(evaluation.rows)
        if len(counts) != 1:
            return f"candidate and champion were measured on different rows of {_named(dataset_id)}: {sorted(counts)}"
        rows.append((dataset_id or " and ".join(dict.fromkeys(dataset_ids)), counts.pop()))
    return Comparison(joined(found[candidate_id]), joined(found[champion_id]), tuple(rows))


def _named(dataset_id: str) -> str:
    return f"dataset {dataset_id}" if dataset_id else "the test splits of both datasets together"
