"""The keys of a pipeline that are forgotten by now: its newest cut tells how many, and its history which."""

from __future__ import annotations

import logging
from dataclasses import dataclass, field

from headrace_data.errors import DataError
from headrace_data.forgotten import NOTHING_FORGOTTEN, Anybody, Suppression, secrets_of
from headrace_data.history import History
from headrace_data.spec import Pipeline
from headrace_runtime.errors import Corrupt, NotFound
from headrace_runtime.object_store import ObjectStore
from headrace_runtime.stream.cuts import NewestCuts

logger = logging.getLogger(__name__)


@dataclass
class ForgottenNow:
    """Tells the forgotten keys of one pipeline. The history is read again when there are more than before."""

    pipeline: Pipeline
    cuts: NewestCuts
    store: ObjectStore
    _known: tuple[int, Suppression] = field(default=(-1, NOTHING_FORGOTTEN))

    def __call__(self) -> Suppression:
        """Return what tells records of forgotten keys; it takes everybody's for one where that cannot be known.

        Raises Unavailable when Kafka or the store is away.
        """
        cut = self.cuts.of(self.pipeline.name, self.pipeline.incarnation)
        if cut is None:
            return NOTHING_FORGOTTEN
        if self._known[0] != cut.forgotten_keys:
            try:
                keys = History.from_json(self.store.get(cut.history)).forgotten
                self._known = (cut.forgotten_keys, Suppression(keys, secrets_of(self.pipeline, self.store.read)))
            except (DataError, NotFound, Corrupt) as error:
                logger.warning("letters of pipeline %s tell nothing of records: %s", self.pipeline.name, error)
                return Anybody()
        return self._known[1]
