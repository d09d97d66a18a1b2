"""Records whose values lie in the object store."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence

import pytest
from headrace_data.records import RecordChecker
from headrace_data.references import DIGEST_HEADER, HEADER, MOST_BYTES
from headrace_data.spec import SpecInvalid, load_pipeline

from .format_samples import DOCUMENT, ROWS

REFERRED = DOCUMENT.format(format="json").replace("  schema:", "  references: [scans, old/2026]\n  schema:")
SENT = json.dumps(ROWS[0]).encode()


class Message:
    """A message of Kafka."""

    key: bytes | None = None
    timestamp_ms = 0

    def __init__(self, **headers: str) -> None:
        self.headers: Sequence[tuple[str, bytes]] = [
            (name.replace("_", "-"), text.encode()) for name, text in headers.items()
        ]


class Store:
    """Files by name."""

    def __init__(self, **files: bytes) -> None:
        self.files = {f"payloads/scans/{name}": data for name, data in files.items()}
        self.asked: list[str] = []

    def beginning(self, name: str, count: int) -> bytes:
        self.asked.append(name)
        return self.files.get(name, b"")[:count]


def digest(data: bytes) -> str:
    return f"sha256:{hashlib.sha256(data).hexdigest()}"


def to(name: str, data: bytes = SENT) -> Message:
    return Message(**{HEADER: name, DIGEST_HEADER: digest(data)})


def test_a_record_is_what_it_refers_to_beside_others_that_are_none() -> None:
    store = Store(a=SENT, broken=b"{", large=bytes(MOST_BYTES + 1), true=SENT.replace(b"1.5", b"true"))
    sent: list[tuple[bytes | None, Message, str]] = [
        (None, to("scans/a"), ""),
        (SENT, Message(), ""),
        (b"", to("scans/a"), ""),
        (None, to("scans/none"), "expected bytes at payloads/scans/none in the object store, got none"),
        (None, to("scans/a", b"other"), f"payloads/scans/a: expected {digest(b'other')}, got {digest(SENT)}"),
        (None, to("scans/large"), "payloads/scans/large: expected at most 33554432 bytes, got more"),
        (None, to("other/a"), "headrace-ref: expected a name within scans/, old/2026/, got 'other/a'"),
        (None, to("scans/../../a"), "got 'scans/../../a'"),
        (None, to("scans/"), "got 'scans/'"),
        (None, Message(headrace_ref="scans/a"), "headrace-ref-digest: expected sha256: and 64 hexadecimal digits, got"),
        (SENT, to("scans/a"), f"expected no value beside headrace-ref, got {len(SENT)} bytes"),
        (None, to("scans/broken", b"{"), "expected a JSON object, got bytes that are no JSON"),
        (None, to("scans/true", SENT.replace(b"1.5", b"true")), "amount: expected a value of type float64, got true"),
        (None, Message(), "expected a JSON object, got no value"),
    ]
    checker = RecordChecker(load_pipeline(REFERRED).stream, payloads=store)
    values, messages, reasons = ([*each] for each in zip(*sent, strict=True))
    checked = checker.check(values, [0] * len(sent), range(len(sent)), messages=messages)
    assert checked.batch.column("_offset").to_pylist() == [0, 1, 2]
    assert [each.position for each in checked.rejected] == [*range(3, len(sent))]
    for each in checked.rejected:
        assert reasons[each.position] in each.reason, each
    assert {each.rule for each in checked.rejected} == {"reference", "json", "type"}
    assert all(name.startswith("payloads/scans/") and ".." not in name for name in store.asked)


def test_a_store_that_is_away_rejects_nothing() -> None:
    class Away:
        def beginning(self, name: str, count: int) -> bytes:
            raise ConnectionError(name, count)

    checker = RecordChecker(load_pipeline(REFERRED).stream, payloads=Away())
    with pytest.raises(ConnectionError):
        checker.check([None], [0], [0], messages=[to("scans/a")])


def test_a_stream_that_names_no_folder_reads_none() -> None:
    store = Store(a=SENT)
    checked = RecordChecker(load_pipeline(DOCUMENT.format(format="json")).stream, payloads=store).check(
        [None], [0], [0], messages=[to("scans/a")]
    )
    assert (len(checked.rejected), store.asked) == (1, [])


@pytest.mark.parametrize("folder", ["/scans", "scans/", "..", "a/../b", "a//b", "''"])
def test_what_no_folder_is_called(folder: str) -> None:
    with pytest.raises(SpecInvalid, match=r"stream.references\[0\]"):
        load_pipeline(REFERRED.replace("scans", folder))
