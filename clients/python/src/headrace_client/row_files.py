"""Files of rows on this machine: opened in their encoding, and looked at before anything is done with them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from shutil import copyfileobj
from tempfile import NamedTemporaryFile
from typing import TYPE_CHECKING, Any, BinaryIO, Final

import orjson
from headrace_data.errors import FileInvalid
from headrace_data.file_texts import digest_of, marked_encoding, recoded, require_encoding

from headrace_client.errors import InputInvalid

if TYPE_CHECKING:
    from headrace_data.file_samples import Sample
    from headrace_data.spec import Stream

TEXTS: Final = ("csv", "jsonl")
"""Formats that are texts."""
_WHOLE: Final = ("csv",)
"""Those that are one as a whole: of JSON Lines one line may be broken, and is refused alone."""


@contextmanager
def opened(path: Path, encoding: str = "") -> Iterator[tuple[BinaryIO, BinaryIO]]:
    """Yield a file twice: its rows in UTF-8, and the file itself, whose place shows how far they are read.

    `encoding` is what it is written in: where that is empty UTF-8, or UTF-16 where the first bytes say so. Whatever is
    wrong with the file becomes InputInvalid with its name.
    """
    try:
        if encoding:
            require_encoding(encoding)
        with path.open("rb") as file:
            encoding = encoding or marked_encoding(file)
            yield recoded(file, encoding) if encoding else file, file
    except (FileInvalid, UnicodeDecodeError) as error:
        raise InputInvalid(f"{path.name}: {error}") from error
    except OSError as error:
        raise InputInvalid(f"{path.name} cannot be read: {error.strerror or error}") from error


def digest(path: Path, file_format: str, encoding: str = "") -> str:
    """Return the SHA-256 of a file in hexadecimal digits. Raises InputInvalid, for one that is not in UTF-8 too."""
    with opened(path, encoding) as (_, file):
        return digest_of(file, is_text=file_format in _WHOLE and not (encoding or marked_encoding(file)))


@contextmanager
def in_utf8(path: Path, encoding: str = "") -> Iterator[Path]:
    """Yield the path of a file in UTF-8: itself, or a copy that is there as long. Raises InputInvalid as `opened`."""
    with opened(path, encoding) as (rows, file):
        if rows is file:
            yield path
            return
        with NamedTemporaryFile(suffix=path.suffix) as copy:
            copyfileobj(rows, copy)
            copy.flush()
            yield Path(copy.name)


def table(
    path: Path, file_format: str, texts: Mapping[str, bool], stream: Stream | None = None, encoding: str = ""
) -> list[dict[str, Any]]:
    """Return the rows of a file, with those columns of it that are told here: whether each holds texts.

    A stream in CSV knows which of several columns of one name is which. Raises InputInvalid.
    """
    from headrace_data.files import Wanted, columns_of, rows_of

    wanted = Wanted(texts, (), columns_of(stream) if stream else ())
    found: list[dict[str, Any]] = []
    with opened(path, encoding) as (rows, _):
        for piece in rows_of(rows, file_format, wanted):
            for at, fault in piece.faults.items():
                raise InputInvalid(f"{path.name}: row {piece.numbers[at] + 1}: {fault}")
            found += [orjson.loads(value or b"null") for value in piece.values]
    return found


def sample(path: Path, file_format: str, encoding: str, count: int) -> Sample:
    """Return some rows of a file. Raises InputInvalid."""
    from headrace_data.file_samples import sample_of

    try:
        with opened(path, encoding) as (rows, _):
            found = sample_of(rows, file_format, count)
    except InputInvalid:
        # Where it is the encoding, this says so better.
        digest(path, file_format, encoding)
        raise
    if any("\0" in name for name in found.columns):
        digest(path, file_format, encoding)
    return found
