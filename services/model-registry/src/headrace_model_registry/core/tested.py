"""What the catalogue holds of evaluations on new rows, and of what was decided by them."""

from dataclasses import dataclass, field
from datetime import datetime

from headrace_model_registry.core.facts import DatasetFrozen, ModelEvaluated, TrainingDecided


@dataclass(frozen=True, slots=True)
class Evaluated:
    """An evaluation that ended, and when."""

    evaluated: ModelEvaluated
    end_time: datetime


@dataclass(frozen=True, slots=True)
class Decided:
    """A decision and when it was taken."""

    decided: TrainingDecided
    decide_time: datetime


@dataclass(slots=True)
class Tested:
    """Its values are immutable, as the catalogue's are."""

    ended: dict[str, Evaluated] = field(default_factory=dict)
    """By run id, in the order in which they ended."""
    decided: list[Decided] = field(default_factory=list)
    """In the order in which they were taken."""
    undecided: dict[str, str] = field(default_factory=dict)
    """By pipeline, the newest dataset where it has a segment, and nobody decided yet whether it is trained on."""

    def __copy__(self) -> "Tested":
        """Return what can be folded on without changing this one."""
        return Tested(dict(self.ended), list(self.decided), dict(self.undecided))

    def freeze(self, frozen: DatasetFrozen) -> None:
        """Note a dataset, of which nobody has decided yet."""
        self.undecided.pop(frozen.pipeline, None)
        if frozen.segment is not None:
            self.undecided[frozen.pipeline] = frozen.dataset_id

    def settle(self, pipeline: str, dataset_id: str) -> None:
        """Note that a dataset is trained on, or is not."""
        if self.undecided.get(pipeline) == dataset_id:
            del self.undecided[pipeline]

    def end(self, event: ModelEvaluated, time: datetime) -> None:
        """Note an evaluation."""
        self.ended[event.run_id] = Evaluated(event, time)

    def decide(self, event: TrainingDecided, time: datetime) -> None:
        """Note a decision."""
        self.decided.append(Decided(event, time))
        self.settle(event.pipeline, event.dataset_id)

    def part(self, pipeline: str) -> "Tested":
        """Take out what is of a pipeline, and return it."""
        self.undecided.pop(pipeline, None)
        ended = {run_id: each for run_id, each in self.ended.items() if each.evaluated.pipeline == pipeline}
        decided = [each for each in self.decided if each.decided.pipeline == pipeline]
        self.ended = {run_id: each for run_id, each in self.ended.items() if run_id not in ended}
        self.decided = [each for each in self.decided if each.decided.pipeline != pipeline]
        return Tested(ended, decided)

    def of_dataset(self, pipeline: str, dataset_id: str) -> TrainingDecided | None:
        """Return what was decided of a dataset last, None where nothing was."""
        wanted = (pipeline, dataset_id)
        found = (each.decided for each in reversed(self.decided))
        return next((each for each in found if (each.pipeline, each.dataset_id) == wanted), None)
