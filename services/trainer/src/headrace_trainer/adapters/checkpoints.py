"""Checkpoints in the object store, under the run's attempts."""

import logging
import re
import time
from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial

from headrace_learning.errors import BrokenCheckpoint
from headrace_learning.training.checkpoint import Checkpoint, from_bytes, to_bytes, to_file
from headrace_runtime.local_files import working_folder
from headrace_runtime.object_store import ObjectStore

logger = logging.getLogger(__name__)

_SIDECAR = re.compile(r"(?P<stem>runs/[^/]+/attempt-\d+/checkpoint-(?:[01]|kept))\.json")
_SHARD = re.compile(r"(?P<stem>(?P<whole>runs/[^/]+/attempt-\d+/checkpoint-[01])\.\d+-of-\d+)\.json")


class StoredCheckpoints:
    """The checkpoints of one run: reads those of every attempt, writes those of one.

    An attempt keeps two and writes over the older one, so that a crash in the middle of writing leaves the other.
    """

    def __init__(self, store: ObjectStore, run_id: str, output: str, interval_s: float) -> None:
        """Write one every `interval_s` seconds, be it in the midst of an epoch; one after each epoch when that is 0."""
        self._store = store
        self._run_prefix = f"runs/{run_id}/"
        self._output = output
        self._interval_s = interval_s
        self._saves = 0
        self._saved_s = time.monotonic()

    def newest(self, subject: str) -> Checkpoint | None:
        """Return the valid checkpoint of this subject that is furthest, of any attempt; None if there is none.

        Of two that are as far it is that of more processor time: the budget may have ended behind the other.
        """
        newest: Checkpoint | None = None
        for name in self._store.list(self._run_prefix):
            if match := _SIDECAR.fullmatch(name):
                checkpoint = self._read(match["stem"])
                if checkpoint is None or checkpoint.subject != subject:
                    continue
                if newest is None or _reached(checkpoint) > _reached(newest):
                    newest = checkpoint
        return newest

    def shards(self, subject: str) -> Sequence[Callable[[], Checkpoint]]:
        """Return what reads the parts of the newest checkpoint that all processes kept, by rank; none without one."""
        parts = defaultdict[str, dict[int, tuple[str, Checkpoint]]](dict)
        for name in self._store.list(self._run_prefix):
            if (match := _SHARD.fullmatch(name)) and (read := self._read(match["stem"])) and read.shard:
                told = replace(read, weights={}, best_weights={}, optimizer={})  # one part at a time is in memory
                parts[match["whole"]][read.shard.rank] = match["stem"], told
        newest: list[str] = []
        furthest: Checkpoint | None = None
        for found in parts.values():
            first = found.get(0)
            if first is None or not _belong_together([each for _, each in found.values()], subject):
                continue
            if furthest is None or _reached(first[1]) > _reached(furthest):
                furthest, newest = first[1], [found[rank][0] for rank in range(len(found))]
        return [partial(self._require, stem) for stem in newest]

    def due(self, *, midway: bool) -> bool:
        """Return whether it is time for another checkpoint: in the midst of an epoch, or after one."""
        if not self._interval_s:
            return not midway
        return time.monotonic() - self._saved_s >= self._interval_s

    def save(self, checkpoint: Checkpoint) -> None:
        """Keep a checkpoint: the tensors first, then the sidecar that makes them count.

        Nothing waits for the disk: a machine that fails costs a run some progress, and a file in pieces does not match
        its digest.
        """
        self._write(str(self._saves % 2), checkpoint)
        self._saves += 1
        self._saved_s = time.monotonic()

    def keep(self, checkpoint: Checkpoint) -> None:
        """Keep a checkpoint, in the place of the one that this attempt kept before, whatever is saved later."""
        self._write("kept", checkpoint)

    def _write(self, name: str, checkpoint: Checkpoint) -> None:
        shard = checkpoint.shard
        stem = f"{self._output}checkpoint-{name}{f'.{shard.rank}-of-{shard.size}' if shard else ''}"
        if checkpoint.is_large:
            with working_folder() as folder:
                sidecar = to_file(checkpoint, folder / "tensors")
                self._store.write_file(f"{stem}.safetensors", folder / "tensors", flushed=False)
        else:
            tensors, sidecar = to_bytes(checkpoint)
            self._store.write(f"{stem}.safetensors", tensors, flushed=False)
        self._store.write(f"{stem}.json", sidecar, flushed=False)

    def _read(self, stem: str) -> Checkpoint | None:
        tensors, sidecar = self._store.read(f"{stem}.safetensors"), self._store.read(f"{stem}.json")
        if tensors is None or sidecar is None:
            return None
        try:
            return from_bytes(tensors, sidecar)
        except BrokenCheckpoint as error:
            logger.warning("%s is passed over: %s", stem, error)
            return None

    def _require(self, stem: str) -> Checkpoint:
        if (checkpoint := self._read(stem)) is None:
            raise RuntimeError(f"{stem}: expected the checkpoint that was there a moment ago, got none")
        return checkpoint


def _belong_together(parts: Sequence[Checkpoint], subject: str) -> bool:
    """Return whether these are of one moment of a subject, and of all processes."""
    places = {(part.subject, part.place) for part in parts}
    sizes = {part.shard.size for part in parts if part.shard}
    return sizes == {len(parts)} and len(places) == 1 and parts[0].subject == subject


def _reached(checkpoint: Checkpoint) -> tuple[tuple[int, int], float]:
    return checkpoint.place, checkpoint.cpu_s
