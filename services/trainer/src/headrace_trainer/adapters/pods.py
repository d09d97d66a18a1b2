"""A run in pods of its own, as its worker follows it: in the place of a child process, a JobSet.

The worker that holds the run's lease makes the JobSet, hears from the object store what its first pod says, and deletes
it, however the run ends. What an earlier attempt has left, of a worker that was killed, is deleted before another
begins.
"""

from __future__ import annotations

import hashlib
import json
import logging
import queue
import threading
import time
from collections.abc import Callable, Iterator
from http import HTTPStatus
from pathlib import Path
from typing import Final, Protocol

from headrace_runtime.errors import HeadraceError
from headrace_runtime.object_store import ObjectStore
from headrace_runtime.runs.child import ABANDONED, DONE, FAILED, REFUSED, Progress
from headrace_runtime.runs.folder import ASSIGNMENT
from headrace_runtime.runs.relay import Ended, Hearing
from headrace_runtime.telemetry.traces import inject

from headrace_trainer.adapters.api_server import TIMEOUT_S, ApiRefused, ApiUnreachable
from headrace_trainer.core.pods import (
    RUN_LABEL,
    Attempt,
    Group,
    Object,
    Owner,
    Template,
    is_of,
    job_set,
    key_of,
    name_of,
    state_of,
)

logger = logging.getLogger(__name__)

POLL_S: Final = 1.0
"""Seconds between two looks at what a run says."""
_LOOKS: Final = 3
"""Looks at the store for each at the API server."""
_INVALID: Final = (HTTPStatus.BAD_REQUEST, HTTPStatus.UNPROCESSABLE_ENTITY)
"""What the API server answers to an object that it does not take now, and never will."""


class JobSets(Protocol):
    """The JobSets of a namespace; `adapters.api_server` says what each does and raises."""

    def create(self, made: Object) -> None:
        """Make one."""

    def get(self, name: str) -> Object | None:
        """Return one."""

    def named(self, labels: dict[str, str]) -> list[str]:
        """Return the names of several."""

    def delete(self, name: str) -> None:
        """Delete one."""


class _Over(Exception):
    """Nothing is left to be followed."""

    def __init__(self, code: int, reason: str) -> None:
        super().__init__(reason)
        self.ended = Ended(code, reason)


class Pods:
    """What follows one attempt: a `headrace_runtime.runs.child_process.Child`."""

    def __init__(
        self,
        api: JobSets,
        store: ObjectStore,
        template: Template,
        attempt: Attempt,
        patience_s: float,
        owner: Owner | None = None,
    ) -> None:
        self._api, self._attempt, self._key = api, attempt, key_of(template, attempt.run_id)
        self._name, self._made = name_of(template, attempt), job_set(template, attempt, owner)
        self._hearing = Hearing(store, attempt.assignment.removesuffix(ASSIGNMENT))
        self._patience_s = patience_s
        self._lines: queue.SimpleQueue[Progress] = queue.SimpleQueue()
        self._stopping = threading.Event()
        self._ended = Ended(ABANDONED, "the worker stops")
        self._held = ""
        self._follower = threading.Thread(target=self._follow, name="pods", daemon=True)
        self._follower.start()

    @property
    def ended(self) -> bool:
        """Whether the run is over, or its pods are."""
        return not self._follower.is_alive()

    @property
    def code(self) -> int:
        """Exit code of the child in the first pod, or what stands for one."""
        return self._ended.code

    @property
    def reason(self) -> str:
        """Why it gave no result."""
        return self._ended.reason or f"the child process ended with code {self.code} and gave no reason; see its log"

    def lines(self) -> Iterator[Progress]:
        """Yield what the run has reported since the last call."""
        while not self._lines.empty():
            yield self._lines.get()

    def stop(self) -> None:
        """Have the JobSet deleted, however the run has ended."""
        self._stopping.set()
        # One call may be under way, and the deletion follows.
        self._follower.join(2 * TIMEOUT_S)

    def _follow(self) -> None:
        try:
            self._insist(self._clear)
            self._insist(self._make)
            self._listen()
        except _Over as over:
            self._ended = over.ended
        except Exception as fault:
            # The last stop of the thread: the trace is for the log, the reason for the worker.
            logger.exception("JobSet %s is followed no longer", self._name)
            self._ended = Ended(FAILED, f"{type(fault).__name__}: {fault}")
        finally:
            # By who made it, so that none is made behind the deletion.
            self._delete()

    def _delete(self) -> None:
        """Delete it, as well as can be: nobody may be there to do it after this."""
        until_s = time.monotonic() + TIMEOUT_S
        while True:
            try:
                return self._api.delete(self._name)
            except (ApiRefused, ApiUnreachable) as error:
                if time.monotonic() >= until_s:
                    # Its owner's end, its time, or the next attempt makes up for it.
                    return logger.warning("JobSet %s is left: %s", self._name, error)
            time.sleep(POLL_S)

    def _insist(self, step: Callable[[], bool]) -> None:
        """Do a step until it says that it is done. Raises _Over when patience or the lease ends, or it never can."""
        ends_s = time.monotonic() + self._patience_s
        while True:
            try:
                if step():
                    return
                held = f"JobSet {self._name} waits for those of earlier attempts to be deleted"
            except ApiRefused as refusal:
                held = str(refusal)
                if refusal.code in _INVALID:
                    raise _Over(REFUSED, held) from refusal
            except ApiUnreachable as error:
                held = str(error)
            self._hold(held, ends_s, logging.WARNING)

    def _hold(self, held: str, ends_s: float, level: int = logging.INFO) -> None:
        """Wait for a moment, and say once what for. Raises _Over where nothing is waited for any longer."""
        if time.monotonic() >= ends_s:
            raise _Over(FAILED, held)
        if held != self._held:
            logger.log(level, "run %s waits: %s", self._attempt.run_id, held)
            self._held = held
        if self._stopping.wait(POLL_S):
            raise _Over(ABANDONED, "the worker stops")

    def _clear(self) -> bool:
        """Delete what other attempts have left. Returns whether nothing is there any more."""
        names = self._api.named({RUN_LABEL: self._key})
        for name in names:
            self._api.delete(name)
        return not names

    def _make(self) -> bool:
        try:
            self._api.create(self._made)
        except ApiRefused as refusal:
            # It may have been made by a call whose answer was lost.
            if refusal.code != HTTPStatus.CONFLICT or not is_of(self._api.get(self._name), self._attempt):
                raise
        logger.info("run %s: made JobSet %s", self._attempt.run_id, self._name)
        return True

    def _listen(self) -> None:
        """Hear what the run says until it has ended. Raises _Over then."""
        ends_s, is_ready, looks = time.monotonic() + self._patience_s, False, 0
        while True:
            is_ready = self._hear() or is_ready
            if looks % _LOOKS == 0:
                is_ready = self._look() or is_ready
            looks += 1
            if is_ready:
                ends_s = float("inf")
            self._hold(self._held if is_ready else f"the pods of JobSet {self._name} are not all ready", ends_s)

    def _hear(self) -> bool:
        """Pass on what the first pod has said. Returns whether there was anything. Raises _Over at its last word."""
        try:
            lines, ended = self._hearing.hear()
        except (HeadraceError, ValueError) as error:
            logger.warning("run %s is not heard: %s", self._attempt.run_id, error)
            return False
        for line in lines:
            self._lines.put(line)
        if ended is not None:
            raise _Over(ended.code, ended.reason)
        return bool(lines)

    def _look(self) -> bool:
        """Return whether all pods are, or were, ready. Raises _Over where they have ended without a word."""
        try:
            found = self._api.get(self._name)
        except (ApiRefused, ApiUnreachable) as error:
            logger.warning("JobSet %s cannot be seen: %s", self._name, error)
            return False
        state = None if found is None else state_of(found)
        if state is not None and not state.ending:
            return state.is_ready
        self._hear()  # its last word may have come meanwhile
        if state is None:
            raise _Over(FAILED, f"JobSet {self._name} was deleted by somebody else")
        if state.ending == "Completed":
            # The result is written before the last word: the worker looks for it.
            raise _Over(DONE, "")
        raise _Over(FAILED, f"JobSet {self._name} failed: {state.said or 'its controller gave no reason'}")


class PodMaker:
    """Makes pods for the runs that get some."""

    def __init__(
        self, api: JobSets, store: ObjectStore, template: Template, patience_s: float, owner: Owner | None = None
    ) -> None:
        self._api, self._store, self._template = api, store, template
        self._patience_s, self._owner = patience_s, owner

    def begin(self, file: Path) -> Pods | None:
        """Return who does the assignment in a file, None where it asks for no pods."""
        attempt = attempt_in(file.read_bytes())
        if attempt is None:
            return None
        return Pods(self._api, self._store, self._template, attempt, self._patience_s, self._owner)


def attempt_in(assignment: bytes) -> Attempt | None:
    """Return the attempt that an assignment describes; None where it asks for no pods."""
    told = json.loads(assignment)
    if "group" not in told:
        return None
    name, digest = f"{told['output']}{ASSIGNMENT}", hashlib.sha256(assignment).hexdigest()
    trace = {key.upper(): value.decode() for key, value in inject([])}
    return Attempt(told["run_id"], told["attempt"], told["pipeline"], name, digest, Group(**told["group"]), trace)
