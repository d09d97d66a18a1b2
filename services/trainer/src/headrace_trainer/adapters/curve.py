"""The learning curve of a run, in the object store: what reports draw. A run never fails for want of it."""

import json
import logging
import time
from collections.abc import Mapping

from headrace_learning.training.ports import Progress
from headrace_runtime.errors import HeadraceError
from headrace_runtime.object_store import ObjectStore

CURVE = "curve.json"
"""Name of the file under the attempt's output: a list of objects, `epoch` and what was measured after it."""
logger = logging.getLogger(__name__)


class StoredCurve:
    """Hands progress on, and keeps every epoch's measurements in one file of the attempt.

    The file is written anew at most every `interval_s` seconds and at the end: an attempt that is killed may lack its
    last epochs. The curve of a run is that of its attempts in order, where later ones overwrite an epoch.
    """

    def __init__(self, progress: Progress, store: ObjectStore, output: str, interval_s: float = 1.0) -> None:
        self._progress = progress
        self._store = store
        self._name = f"{output}{CURVE}"
        self._interval_s = interval_s
        self._written_s = time.monotonic()
        self._epochs: list[dict[str, float]] = []

    def progress(self, step: int, steps: int, metrics: Mapping[str, float], eta_s: float) -> None:
        """Tell that `step` of `steps` epochs are done, and keep the measurements."""
        self._epochs.append({"epoch": step, **metrics})
        self._progress.progress(step, steps, metrics, eta_s)
        if time.monotonic() - self._written_s >= self._interval_s:
            self.write()

    def write(self) -> None:
        """Write what was kept so far."""
        try:
            self._store.write(self._name, json.dumps(self._epochs, separators=(",", ":")).encode())
        except HeadraceError as error:
            logger.warning("the learning curve is not kept: %s", error)
        self._written_s = time.monotonic()
