"""The registry's log, checked by whoever holds its bytes, and heads of it that were saved."""

from __future__ import annotations

import base64
import hashlib
import json
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from headrace.registry.v1 import proof_pb2
from headrace.registry.v1.registry_log_pb2 import LogEntry
from headrace_data.log_chain import Break, Claim, LogChain

from headrace_client.errors import AnswerInvalid, ExtraMissing, InputInvalid

HEAD_FORMAT = "headrace.log.head.v1"


@dataclass(frozen=True)
class Head:
    """What the log was up to an entry: see `LogHead` of the contracts."""

    size: int
    root: str
    time: str
    key: str = ""
    signature: str = ""

    def signed(self) -> bytes:
        """Return what the signature is of."""
        said = {"root": self.root, "size": self.size, "time": self.time}
        return f"{HEAD_FORMAT}\n{json.dumps(said, sort_keys=True, separators=(',', ':'))}".encode()

    def to_json(self) -> str:
        """Return the head as a file holds it."""
        return json.dumps({"format": HEAD_FORMAT, **asdict(self)}, indent=1) + "\n"


@dataclass(frozen=True)
class Walk:
    """What a walk along the log found."""

    entries: int
    root: str
    begins: int | None
    """Offset of the first entry that carries a root; None while none does."""
    unchained: int
    """Entries after that one which carry none."""
    first_break: Break | None
    last_broken: int
    """Offset of the last entry whose root was wrong; -1 when none was."""
    roots: dict[int, str]
    """The root at each size that was asked for, as far as the log goes."""


def head_of(message: proof_pb2.LogHead) -> Head:
    """Return the head of an answer."""
    return Head(message.size, message.root, message.time, message.key, message.signature)


def read_head(file: Path) -> Head:
    """Return the head of a file. Raises InputInvalid."""
    try:
        told: dict[str, Any] = json.loads(file.read_bytes())
        if told.pop("format") != HEAD_FORMAT:
            raise ValueError(f"its format is not {HEAD_FORMAT}")  # noqa: TRY301
        head = Head(**told)
        if not isinstance(head.size, int) or not all(isinstance(told[name], str) for name in ("root", "time")):
            raise TypeError("a number, or a text, is none")  # noqa: TRY301
    except (OSError, ValueError, TypeError, KeyError, AttributeError) as error:
        raise InputInvalid(f"{file}: expected a head that `headrace verify --save` wrote: {error}") from error
    return head


def walk(lines: Iterable[proof_pb2.LogLine], sizes: Iterable[int] = ()) -> Walk:
    """Check each entry's root, and return what was found. Raises AnswerInvalid when bytes are no entry."""
    chain, wanted = LogChain(), set(sizes)
    roots = {0: chain.tree.root().hex()} if 0 in wanted else {}
    for line in lines:
        try:
            entry = LogEntry.FromString(line.value)
        except ValueError as error:
            raise AnswerInvalid(f"the log has no entry at offset {line.offset}: {error}") from error
        chain.take(line.offset, line.value, Claim(entry.entries_before, entry.root_before))
        if chain.tree.leaves in wanted:
            roots[chain.tree.leaves] = chain.tree.root().hex()
    root = chain.tree.root().hex()
    return Walk(chain.tree.leaves, root, chain.begins, chain.unchained, chain.first_break, chain.last_broken, roots)


def is_signed_by(head: Head, public_key: Path) -> bool:
    """Return whether a head was signed with the key of a file (PEM). Raises InputInvalid for a file that is none."""
    try:
        from cryptography.exceptions import InvalidSignature
        from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
        from cryptography.hazmat.primitives.serialization import load_pem_public_key
    except ImportError as error:
        raise ExtraMissing("verify --key", "private") from error
    try:
        key = load_pem_public_key(public_key.read_bytes())
    except (OSError, ValueError) as error:
        raise InputInvalid(f"{public_key}: expected an Ed25519 public key (PEM): {error}") from error
    if not isinstance(key, Ed25519PublicKey):
        raise InputInvalid(f"{public_key}: expected an Ed25519 public key (PEM), got another kind of key")
    if hashlib.sha256(key.public_bytes_raw()).hexdigest() != head.key:
        return False
    try:
        key.verify(base64.b64decode(head.signature, validate=True), head.signed())
    except (InvalidSignature, ValueError):
        return False
    return True
