"""The trials of a search in the object store, one file each, under the run's attempts."""

import json
import logging
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from typing import Any

from headrace_learning.training.checkpoint import Checkpoint
from headrace_learning.training.ports import Progress
from headrace_learning.tuning import State, Trial
from headrace_runtime.object_store import ObjectStore

logger = logging.getLogger(__name__)

_NAME = re.compile(r"runs/[^/]+/attempt-\d+/trial-\d+\.json")


class StoredTrials:
    """Reads the trials of every attempt of one run, writes those of one, and hands progress on."""

    def __init__(
        self, progress: Progress, keep: Callable[[Checkpoint], None], store: ObjectStore, run_id: str, output: str
    ) -> None:
        """`keep` keeps a checkpoint apart from those of the attempt."""
        self._progress = progress
        self._keep = keep
        self._store = store
        self._run_prefix = f"runs/{run_id}/"
        self._output = output

    def ended(self, subject: str) -> Sequence[Trial]:
        """Return the trials of a subject that ended, in order, up to the first that did not."""
        known = {trial.number: trial for trial in self._all(subject) if trial.state != State.RUNNING}
        first_missing = next(number for number in range(len(known) + 1) if number not in known)
        return [known[number] for number in range(first_missing)]

    def under_way(self, subject: str, number: int) -> Trial | None:
        """Return what is known of a trial that did not end, of any attempt what is furthest; None when nothing is."""
        begun = [trial for trial in self._all(subject) if (trial.number, trial.state) == (number, State.RUNNING)]
        return max(begun, key=lambda trial: len(trial.curve), default=None)

    def write(self, subject: str, trial: Trial) -> None:
        """Record a trial, in the place of what this attempt recorded of it before."""
        told = json.dumps({"subject": subject} | asdict(trial), allow_nan=False, separators=(",", ":"))
        self._store.write(f"{self._output}trial-{trial.number}.json", told.encode())

    def keep(self, checkpoint: Checkpoint) -> None:
        """Keep the last checkpoint of the best trial so far, whatever is saved later."""
        self._keep(checkpoint)

    def tell(self, step: int, steps: int, metrics: Mapping[str, float]) -> None:
        """Tell that `step` of `steps` trials have ended."""
        self._progress.progress(step, steps, metrics, 0.0)

    def _all(self, subject: str) -> list[Trial]:
        names = [name for name in self._store.list(self._run_prefix) if _NAME.fullmatch(name)]
        return [trial for name in names if (trial := self._read(name, subject)) is not None]

    def _read(self, name: str, subject: str) -> Trial | None:
        try:
            told: dict[str, Any] = json.loads(self._store.read(name) or b"")
            if told.pop("subject") != subject:
                return None
            return Trial(**(told | {"state": State(told["state"]), "curve": tuple(told["curve"])}))
        except (ValueError, KeyError, TypeError) as error:
            logger.warning("%s is passed over: %s", name, error)
            return None
