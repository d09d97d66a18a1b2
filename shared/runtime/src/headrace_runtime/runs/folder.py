"""The folder of a run in the object store, and the ids that may name one.

::

    runs/<run id>/result.json                   the result with its digest: written last, when the run is done
    runs/<run id>/attempt-<n>/assignment.json   written before attempt n (from 1) begins; tells the command it served
    runs/<run id>/attempt-<n>/checkpoint*       progress, which the next attempt takes up; gone once the run ended
    runs/<run id>/attempt-<n>/end.json          how the attempt ended; missing when its worker died with it

Anything else in there is passed over.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from headrace_runtime.errors import Corrupt, Unprocessable
from headrace_runtime.object_store import ObjectStore, digest_of

CHECKPOINT = "checkpoint"
"""What the names of the files begin with that make an attempt one that got on."""

ASSIGNMENT = "assignment.json"
_END = "end.json"
_RUN_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,127}")
_ATTEMPT = re.compile(r"attempt-([1-9][0-9]{0,8})")
MOST_ATTEMPTS = 999_999_999
"""The highest number that an attempt can have: one of a stray folder may be as high."""
_SHOWN = 40
"""Characters of a bad id that a message shows."""

Ending = Literal["failed", "interrupted"]


def check_run_id(run_id: str) -> str:
    """Return the id when it may name a run, and so a folder of the object store; raise Unprocessable otherwise."""
    if _RUN_ID.fullmatch(run_id) is None:
        shown = run_id if len(run_id) <= _SHOWN else f"{run_id[:_SHOWN]}…"
        raise Unprocessable(
            "run id: expected 1 to 128 letters, digits, dots, hyphens and underscores, a letter or digit first; got "
            f"{shown!r} ({len(run_id)} characters)"
        )
    return run_id


def result_name(run_id: str) -> str:
    """Return the name of a run's result in the object store."""
    return f"runs/{run_id}/result.json"


def output_prefix(run_id: str, attempt: int) -> str:
    """Return the prefix of the names of one attempt's own files in the object store."""
    return f"runs/{run_id}/attempt-{attempt}/"


def attempt_of(name: str) -> int:
    """Return the number of the attempt that a file of a run belongs to, 0 when it belongs to none."""
    parts = name.split("/")
    found = _ATTEMPT.fullmatch(parts[2]) if len(parts) > 3 else None
    return int(found[1]) if found else 0


def is_checkpoint(name: str) -> bool:
    """Return whether a file of a run is of no use once the run has ended."""
    return bool(attempt_of(name)) and name.rpartition("/")[2].startswith(CHECKPOINT)


@dataclass(frozen=True, slots=True)
class Past:
    """What became of the attempts at a run."""

    latest: int
    """The highest number of an attempt; 0 before the first."""
    failures: int
    """Attempts of the command since the last progress that failed."""
    deaths: int
    """Attempts of the command since the last progress that did not live to say how they ended."""
    reason: str
    """Why the latest of the failures failed; empty when there is none."""


class RunFolder:
    """The files of one run.

    Every method raises Unavailable when the object store fails, and Unprocessable when something lies in the way.
    """

    def __init__(self, store: ObjectStore, run_id: str) -> None:
        self._store = store
        self._run_id = check_run_id(run_id)

    def result(self) -> dict[str, Any] | None:
        """Return the run's result, None without one. Raises Corrupt when what is there is not what a child wrote."""
        data = self._store.read(result_name(self._run_id))
        return None if data is None else _whole(data, self._run_id)

    def write_result(self, result: Mapping[str, Any]) -> None:
        """Write the result beside its digest. Raises ValueError when it holds what JSON cannot."""
        plain = _canonical(result)
        data = b'{"digest":"%s","result":%s}' % (digest_of(plain).encode(), plain)
        self._store.write(result_name(self._run_id), data)

    def past(self, command: str) -> Past:
        """Return what became of earlier attempts; `command` tells where the command lies that this is about.

        Only attempts at the same command count: whoever asks for a run again after it failed gets all attempts anew.
        An attempt that left a checkpoint got on, and nothing before it counts any more.
        """
        files: dict[int, set[str]] = {}
        for name in self._store.list(f"runs/{self._run_id}"):
            # With a slash, because a file in the place of an attempt's folder takes its number as well.
            files.setdefault(attempt_of(f"{name}/"), set()).add(name.rpartition("/")[2])
        files.pop(0, None)
        failures, deaths, reason = 0, 0, ""
        for attempt in sorted(files, reverse=True):
            if any(name.startswith(CHECKPOINT) for name in files[attempt]):
                break
            if ASSIGNMENT not in files[attempt] or self._read(attempt, ASSIGNMENT).get("command") != command:
                continue
            end = self._read(attempt, _END) if _END in files[attempt] else {}
            failures += end.get("ending") == "failed"
            deaths += "ending" not in end
            # Half of a surrogate pair is text to JSON, and none to a fact.
            reason = reason or str(end.get("reason", "")).encode(errors="replace").decode()
        return Past(max(files, default=0), failures, deaths, reason)

    def begin(self, attempt: int, assignment: bytes) -> None:
        """Note that an attempt begins. Raises Unprocessable when there can be no further one."""
        if attempt > MOST_ATTEMPTS:
            raise Unprocessable(f"runs/{self._run_id}: expected attempts up to {MOST_ATTEMPTS}, got one more")
        self._store.write(f"{output_prefix(self._run_id, attempt)}{ASSIGNMENT}", assignment)

    def end(self, attempt: int, ending: Ending, reason: str) -> None:
        """Note how an attempt ended."""
        data = json.dumps({"ending": ending, "reason": reason if ending == "failed" else ""}).encode()
        self._store.write(f"{output_prefix(self._run_id, attempt)}{_END}", data)

    def clear(self) -> None:
        """Remove the checkpoints of a run that has ended. The result and what tells of the attempts stay."""
        for name in self._store.list(f"runs/{self._run_id}"):
            if is_checkpoint(name):
                self._store.remove(name, math.inf)

    def _read(self, attempt: int, name: str) -> dict[str, Any]:
        """Return the JSON object in a file of an attempt, an empty one when there is none."""
        data = self._store.read(f"{output_prefix(self._run_id, attempt)}{name}")
        try:
            found = json.loads(data or b"{}")
        except (ValueError, RecursionError):
            return {}
        return found if isinstance(found, dict) else {}


def _whole(data: bytes, run_id: str) -> dict[str, Any]:
    """Return the result in a file. Raises Corrupt."""
    place = result_name(run_id)
    try:
        written = json.loads(data)
        if not isinstance(written, dict):
            raise Corrupt(f"{place}: expected a JSON object, got {type(written).__name__}")
        # Results that were written before there were digests are taken as they are, as far as they make a fact.
        result = written.get("result", written)
        found = digest_of(_canonical(result)) if "result" in written else None
    except (ValueError, RecursionError) as error:
        raise Corrupt(f"{place}: expected a result in JSON, got {len(data)} bytes ({error})") from error
    if not isinstance(result, dict) or written.get("digest") != found:
        raise Corrupt(f"{place}: expected a result of {written.get('digest')}, got one of {found}")
    if result.get("run_id") != run_id:
        raise Corrupt(f"{place}: expected the result of this run, got that of {result.get('run_id')!r}")
    return result


def _canonical(values: object) -> bytes:
    return json.dumps(values, allow_nan=False, sort_keys=True, separators=(",", ":")).encode()
