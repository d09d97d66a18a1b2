"""What the catalogue holds of candidates that are tried: rollouts, and canaries on rows of the past."""

from dataclasses import dataclass, field
from datetime import datetime

from headrace_model_registry.core.facts import CanaryJudged, RolloutAdvanced, RolloutEnded
from headrace_model_registry.core.rollout import EndedRollout, RolloutRecord


@dataclass(slots=True)
class Tried:
    """Its values are immutable, as the catalogue's are."""

    rollouts: dict[str, RolloutRecord] = field(default_factory=dict)
    """The rollout under way, by model."""
    ended: list[EndedRollout] = field(default_factory=list)
    """Rollouts that are over, the one that ended last at the end."""
    canaries: list[tuple[CanaryJudged, datetime]] = field(default_factory=list)
    """What came of versions that were held against others on rows of the past, and when."""

    def __copy__(self) -> "Tried":
        """Return what can be folded on without changing this one."""
        return Tried(dict(self.rollouts), list(self.ended), list(self.canaries))

    def note(self, event: RolloutAdvanced | RolloutEnded | CanaryJudged, time: datetime) -> None:
        """Remember an entry of the log."""
        if isinstance(event, RolloutAdvanced):
            self.rollouts[event.model] = RolloutRecord(event, time)
        elif isinstance(event, CanaryJudged):
            self.canaries.append((event, time))
        elif (record := self.rollouts.pop(event.model, None)) is not None:
            self.ended.append(EndedRollout(record, event, time))

    def is_busy(self, pipeline: str, ended: str = "") -> bool:
        """Return whether a candidate of a pipeline is rolled out, but for that of the model `ended`."""
        return any(name != ended and each.pipeline == pipeline for name, each in self.rollouts.items())

    def forget(self, pipeline: str) -> None:
        """Forget what is of a pipeline."""
        self.rollouts = {name: each for name, each in self.rollouts.items() if each.pipeline != pipeline}
        self.ended = [each for each in self.ended if each.record.pipeline != pipeline]
        self.canaries = [each for each in self.canaries if each[0].pipeline != pipeline]
