"""Keys that are forgotten: known by keyed digests, so that whoever reads the list of them learns no key.

A digest is BLAKE2b (RFC 7693) of the key's text under a secret of 32 random bytes. Secrets lie in the object store, and
digests in topics: who has one of both alone cannot try guesses. A pipeline has one secret, or several where two callers
made one at the same moment; each digest names its own.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from typing import Annotated, Final

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pydantic

from headrace_data.errors import DatasetUnusable
from headrace_data.manifest import Document
from headrace_data.rejections import Rejection
from headrace_data.spec import Field, Pipeline

FORGOTTEN: Final = "forgotten"
"""Rule: the record has a key that was forgotten."""
SECRET_BYTES: Final = 32
_DIGEST_BYTES: Final = 16
_ID_BYTES: Final = 8
_FOLDER: Final = "forget"

Mask = npt.NDArray[np.bool_]


class Forgotten(Document):
    """A key that was forgotten."""

    secret: Annotated[str, pydantic.Field(pattern=r"^[0-9a-f]{16}$")]
    """Id of the secret that the digest was made with."""
    digest: Annotated[str, pydantic.Field(pattern=r"^[0-9a-f]{32}$")]
    """Digest of the key."""


Secrets = Callable[[str], bytes]
"""Returns the secret of an id. Raises DatasetUnusable without it: nobody can tell the rows of the keys then."""


def secrets_folder(pipeline: str) -> str:
    """Return where a pipeline's secrets lie in the object store, by the name that it alone ever has."""
    return f"{_FOLDER}/{pipeline}"


def secrets_of(pipeline: Pipeline, read: Callable[[str], bytes | None]) -> Secrets:
    """Return a pipeline's secrets; `read` returns a file of the object store by its name, None where there is none."""

    def secret(secret_id: str) -> bytes:
        name = f"{secrets_folder(pipeline.own_name)}/{secret_id}"
        if (found := read(name)) is None:
            raise DatasetUnusable(
                f"expected {name} in the object store, by which the records of forgotten keys are told: restore it"
            )
        return found

    return secret


def secret_id(secret: bytes) -> str:
    """Return the id of a secret, which is the name of its file."""
    return hashlib.blake2b(secret, digest_size=_ID_BYTES, person=b"headrace secret").hexdigest()


def key_text(given: str, field: Field) -> str:
    """Return the text of a key as a caller gives it. Raises ValueError for what no key of the field is."""
    if field.type == "string":
        return given
    try:
        return str(int(given))
    except ValueError:
        raise ValueError(f"expected a key of type {field.type}, as field {field.name!r} has it") from None


def forgotten(text: str, secret: bytes) -> Forgotten:
    """Return what stands for the key of a text."""
    digest = hashlib.blake2b(text.encode(), key=secret, digest_size=_DIGEST_BYTES).hexdigest()
    return Forgotten(secret=secret_id(secret), digest=digest)


class Suppression:
    """Tells rows of forgotten keys from others. Safe for use by several threads."""

    def __init__(self, keys: Iterable[Forgotten], secrets: Secrets) -> None:
        """`secrets` is asked at once for each secret that is named."""
        by_secret: dict[str, set[bytes]] = {}
        for key in keys:
            by_secret.setdefault(key.secret, set()).add(bytes.fromhex(key.digest))
        self._known = [(secrets(secret), digests) for secret, digests in by_secret.items()]

    def __bool__(self) -> bool:
        return bool(self._known)

    def among(self, keys: pa.Array) -> Mask:
        """Return which of these keys, whole numbers or texts, are forgotten; null is none."""
        return self.texts(keys.cast(pa.string()).to_pylist()) if self._known else np.zeros(len(keys), dtype=np.bool_)

    def texts(self, texts: Sequence[str | None]) -> Mask:
        """Return which of these texts are forgotten keys; None is none."""
        found = np.zeros(len(texts), dtype=np.bool_)
        for secret, digests in self._known:
            begun = hashlib.blake2b(key=secret, digest_size=_DIGEST_BYTES)
            for row, text in enumerate(texts):
                if text is not None:
                    one = begun.copy()
                    one.update(text.encode())
                    found[row] |= one.digest() in digests
        return found

    def rows(self, batch: pa.RecordBatch, pipeline: Pipeline) -> Mask:
        """Return which rows of a batch have a forgotten key; none where the pipeline's records have no key."""
        field = pipeline.stream.key_field
        if not self._known or field is None:
            return np.zeros(len(batch), dtype=np.bool_)
        return self.among(batch.column(field.name))

    def without(self, batch: pa.RecordBatch, pipeline: Pipeline) -> tuple[pa.RecordBatch, list[Rejection]]:
        """Return the rows whose keys are not forgotten, and why the others are not there."""
        gone = self.rows(batch, pipeline)
        if not gone.any():
            return batch, []
        return batch.filter(pa.array(~gone)), [rejection(row) for row in np.flatnonzero(gone).tolist()]


class Anybody(Suppression):
    """Takes every key for a forgotten one: for letters, where some are forgotten and the secret is not to be had."""

    def __init__(self) -> None:
        super().__init__((), lambda _: b"")

    def __bool__(self) -> bool:
        return True

    def among(self, keys: pa.Array) -> Mask:
        """Return that all are."""
        return np.ones(len(keys), dtype=np.bool_)

    def texts(self, texts: Sequence[str | None]) -> Mask:
        """Return that all are."""
        return np.ones(len(texts), dtype=np.bool_)

    def rows(self, batch: pa.RecordBatch, pipeline: Pipeline) -> Mask:
        """Return that all are."""
        return np.ones(len(batch), dtype=np.bool_)


NOTHING_FORGOTTEN: Final = Suppression((), lambda _: b"")
Now = Callable[[], Suppression]
"""Returns what tells the keys that are forgotten by now."""


def nothing_forgotten() -> Suppression:
    """Return that no key is forgotten."""
    return NOTHING_FORGOTTEN


def rejection(position: int) -> Rejection:
    """Return why a row with a forgotten key is dropped."""
    return Rejection(position, FORGOTTEN, "", "record: its key was forgotten")


def hushed(rejection: Rejection) -> Rejection:
    """Return why a record with a forgotten key is refused, without what it holds."""
    return replace(rejection, reason=f"{rejection.field or 'record'}: its key was forgotten", forgotten=True)


def known(keys: Sequence[Forgotten], key: Forgotten) -> tuple[Forgotten, ...]:
    """Return a list of forgotten keys with one more, which may be there already."""
    return (*keys,) if key in keys else (*keys, key)
