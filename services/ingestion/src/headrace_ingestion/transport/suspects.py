"""Records on which processes die: tried in a process of their own, and parked."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from headrace_data.decoders import schemas_of
from headrace_data.spec import parse_canonical
from headrace_runtime.key_files import KEYS_SETTING, KeyFolder
from headrace_runtime.object_store import ObjectStore
from headrace_runtime.poison.trial_child import Attempt
from headrace_runtime.poison.trials import Trial, is_transient
from headrace_runtime.records import Outgoing, Record
from headrace_runtime.schema_registry import RegistryAccess

from headrace_ingestion.core.intake import Intake
from headrace_ingestion.core.replay import dropped
from headrace_ingestion.transport.consumer import handler, messages_of

CHILD = "headrace_ingestion.child"


class IntakeSuspects:
    """The records of one pipeline's producers: a message is a record."""

    def __init__(self, intake: Intake, registries: RegistryAccess) -> None:
        self._intake = intake
        self._registries = registries

    def open_trial(self) -> Trial:
        """Return a process that checks records as the intake does."""
        return open_trial(self._intake, self._registries)

    def rows(self, _: Record) -> int:
        """Return 0: a message is parked as a whole."""
        return 0

    def handle_without(self, record: Record, _: Mapping[int, str]) -> Sequence[Outgoing]:
        """Handle the record, which has no rows that could be left out."""
        return handler(self._intake)([record])

    def park(self, record: Record, reason: str) -> Sequence[Outgoing]:
        """Return the dead letter, and the batch that accounts for the record's place."""
        return messages_of(self._intake.set_aside(record, reason), self._intake)


def open_trial(intake: Intake, registries: RegistryAccess, *, cleans: bool = False) -> Trial:
    """Return a process that checks records as an intake does, and cleans them too when that is wanted."""
    told = {
        "spec": intake.pipeline.canonical_json().decode(),
        "batch_bytes": intake.batch_bytes,
        "max_record_bytes": intake.max_record_bytes,
        "cleans": cleans,
        "keys_dir": str(intake.keys_dir) if intake.keys_dir else None,
        "store_url": intake.store_url,
        "registry_hosts": sorted(registries.hosts),
        "registry_keys": str(registries.keys_dir or ""),
    }
    return Trial(CHILD, told)


def attempt(setup: Mapping[str, Any]) -> Attempt:
    """Return what a trial does with records."""
    pipeline, registry_keys = parse_canonical(setup["spec"].encode()), setup["registry_keys"]
    access = RegistryAccess(frozenset(setup["registry_hosts"]), Path(registry_keys) if registry_keys else None)
    keys = KeyFolder(Path(setup["keys_dir"]) if setup["keys_dir"] else None, KEYS_SETTING).key
    sizes = setup["batch_bytes"], setup["max_record_bytes"]
    payloads = ObjectStore(setup["store_url"]) if pipeline.stream.references else None
    intake = Intake(pipeline, *sizes, keys=keys, schemas=schemas_of(pipeline.stream, access), payloads=payloads)
    handle = handler(intake)

    def check_and_clean(records: Sequence[Record], _: Sequence[int] | None) -> object:
        return dropped(intake.take(records), intake.pipeline)

    work: Attempt = check_and_clean if setup["cleans"] else lambda records, _: handle(records)
    return _told_by_type(work) if intake.withholds else work


class Withheld(Exception):
    """A handler failed on a record with personal fields, which what it said may quote: only its type is told."""


def _told_by_type(work: Attempt) -> Attempt:
    def quietly(records: Sequence[Record], rows: Sequence[int] | None) -> object:
        try:
            return work(records, rows)
        except Exception as error:
            if is_transient(error):
                raise
            raise Withheld(type(error).__name__) from None

    return quietly
