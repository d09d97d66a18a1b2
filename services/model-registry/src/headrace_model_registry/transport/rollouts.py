"""Looks at what replicas counted of candidates, and asks for what follows from it."""

from __future__ import annotations

import logging
from datetime import UTC, datetime

from headrace_runtime.errors import HeadraceError
from headrace_runtime.process.service import Background

from headrace_model_registry.core import candidates
from headrace_model_registry.core.catalogue import Catalogue
from headrace_model_registry.core.rollout import RolloutRecord, Waits, judged
from headrace_model_registry.core.state import State
from headrace_model_registry.core.wishes import RolloutLook
from headrace_model_registry.ports import Writer

logger = logging.getLogger(__name__)

LOOK_EVERY_S = 0.5
FIRST_LOOK_S = 3.0
"""What replicas told before this registry started is read again by then."""


class Rollouts(Background):
    """Moves each candidate on, or back, as soon as its counts and the clock say so.

    What is decided is decided by the policy, in the transaction that records it: a look that comes too late, or again
    after a kill, finds another step and changes nothing.
    """

    def __init__(self, state: State, writer: Writer) -> None:
        super().__init__("registry rollouts")
        self._state = state
        self._writer = writer

    def run(self) -> None:
        """Look until stopped."""
        self.stopping.wait(FIRST_LOOK_S)
        while not self.stopping.wait(LOOK_EVERY_S):
            catalogue = self._state.catalogue
            for model, record in list(catalogue.tried.rollouts.items()):
                self._look(model, record, catalogue)

    def _look(self, model: str, record: RolloutRecord, catalogue: Catalogue) -> None:
        epoch, now = record.advanced.epoch, datetime.now(UTC)
        observed = candidates.observed(record, catalogue, self._state.board)
        if isinstance(judged(record, candidates.plan_of(record, catalogue), observed, now), Waits):
            return
        try:
            self._writer.write(RolloutLook(model, epoch, observed, now))
        except HeadraceError as error:
            logger.warning("the candidate of model %s cannot be moved now: %s", model, error)
