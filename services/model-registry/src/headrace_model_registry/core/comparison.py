"""A candidate beside the champion on the same rows: the test splits of both."""

from collections.abc import Sequence
from dataclasses import dataclass

from headrace_model_registry.core.facts import Evaluation


@dataclass(frozen=True, slots=True)
class Score:
    """Rows that one version answered rightly, of how many."""

    right: int
    rows: int

    @property
    def accuracy(self) -> float:
        """Share of right answers, 0 to 1."""
        return self.right / self.rows if self.rows else 0.0

    def __str__(self) -> str:
        return f"{self.right} of {self.rows} right (accuracy {self.accuracy:.4f})"


@dataclass(frozen=True, slots=True)
class Comparison:
    """Candidate and champion on the same rows, by dataset id in `rows`."""

    candidate: Score
    champion: Score
    rows: tuple[tuple[str, int], ...]

    @property
    def worse(self) -> bool:
        """Whether the candidate answered fewer rows rightly. The newer version wins a tie: it has seen newer data."""
        return self.candidate.right < self.champion.right


def compare(
    evaluations: Sequence[Evaluation], candidate_id: str, champion_id: str, dataset_ids: Sequence[str]
) -> Comparison | str:
    """Return the accuracy of both versions over the union of the datasets' test splits, or what is missing for it.

    Each dataset counts once and by its rows, so the figures are counts of right answers: a mean of the datasets'
    accuracies would let ten rows outvote ten thousand.
    """
    by_place = {(e.version_id, e.dataset_id): e for e in evaluations}
    rows: list[tuple[str, int]] = []
    right = {candidate_id: 0, champion_id: 0}
    for dataset_id in dict.fromkeys(dataset_ids):
        found = {version_id: by_place.get((version_id, dataset_id)) for version_id in right}
        for version_id, evaluation in found.items():
            if evaluation is None or "accuracy" not in evaluation.metrics:
                return f"the accuracy of version {version_id} on dataset {dataset_id} was not measured"
            if not 0.0 <= evaluation.metrics["accuracy"] <= 1.0:
                accuracy = evaluation.metrics["accuracy"]
                return f"the accuracy of version {version_id} on dataset {dataset_id} is {accuracy}, expected 0 to 1"
            right[version_id] += round(evaluation.metrics["accuracy"] * evaluation.rows)
        counts = {evaluation.rows for evaluation in found.values() if evaluation is not None}
        if len(counts) != 1:
            return f"candidate and champion were measured on different rows of dataset {dataset_id}: {sorted(counts)}"
        rows.append((dataset_id, counts.pop()))
    total = sum(count for _, count in rows)
    return Comparison(Score(right[candidate_id], total), Score(right[champion_id], total), tuple(rows))
