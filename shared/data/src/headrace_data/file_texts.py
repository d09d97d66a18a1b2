"""Texts of files that are not in UTF-8: told clearly, and read in the encoding that somebody names."""

from __future__ import annotations

import codecs
import hashlib
import io
from typing import BinaryIO, Final, cast

from headrace_data.errors import FileInvalid

USUAL: Final = "windows-1252"
"""What spreadsheets write where nobody tells them otherwise."""
_AT_ONCE: Final = 1 << 20
_SHOWN: Final = 60
_MARKS: Final = {codecs.BOM_UTF16_LE: "utf-16", codecs.BOM_UTF16_BE: "utf-16"}


def marked_encoding(file: BinaryIO) -> str:
    """Return the encoding that a file's first bytes name, such as that of UTF-16; empty where they name none."""
    first = file.read(len(codecs.BOM_UTF16_LE))
    file.seek(0)
    return _MARKS.get(first, "")


def require_encoding(name: str) -> None:
    """Raise FileInvalid unless Python knows an encoding of texts by this name."""
    try:
        "".encode(name)
    except (LookupError, ValueError) as error:
        raise FileInvalid(f"expected an encoding such as {USUAL}, got {name!r}") from error


def recoded(file: BinaryIO, encoding: str) -> BinaryIO:
    """Return a file in UTF-8 that is in another encoding. Reading raises UnicodeDecodeError for what is not in that."""
    return cast("BinaryIO", io.BufferedReader(_Recoded(file, encoding), _AT_ONCE))


class _Recoded(io.RawIOBase):
    def __init__(self, file: BinaryIO, encoding: str) -> None:
        self._file = file
        self._decoder = codecs.getincrementaldecoder(encoding)()
        self._held = b""
        self._ended = False

    def readable(self) -> bool:
        return True

    def readinto(self, room: memoryview) -> int:  # type: ignore[override]  # that is what comes
        while not self._held and not self._ended:
            read = self._file.read(_AT_ONCE)
            self._ended = not read
            self._held = self._decoder.decode(read, final=self._ended).encode()
        count = min(len(room), len(self._held))
        room[:count] = self._held[:count]
        self._held = self._held[count:]
        return count


def digest_of(file: BinaryIO, *, is_text: bool = False) -> str:
    """Return the SHA-256 of a file in hexadecimal digits. Raises FileInvalid where it `is_text` and not UTF-8."""
    digest, lines = hashlib.sha256(), 1
    decoder = codecs.getincrementaldecoder("utf-8")()
    is_first = True
    while chunk := file.read(_AT_ONCE):
        digest.update(chunk)
        if not is_text:
            continue
        if is_first and b"\0" in chunk[:_SHOWN].partition(b"\n")[0]:
            told = "utf-16-be" if chunk[0] == 0 else "utf-16-le"
            raise FileInvalid(f"expected UTF-8, got zeros between letters, as in {told}: say --encoding {told}")
        is_first = False
        try:
            decoder.decode(chunk)
        except UnicodeDecodeError as error:
            # What was left of a letter of the chunk before stands first.
            raise FileInvalid(_told(error.object, error.start, lines)) from error
        lines += chunk.count(b"\n")
    return digest.hexdigest()


def _told(data: bytes, at: int, lines: int) -> str:
    """Return what is wrong with bytes that are no UTF-8, and what their line says in the usual encoding."""
    first = data.rfind(b"\n", 0, at) + 1
    line = data[max(first, at - _SHOWN // 2) :][:_SHOWN].partition(b"\n")[0].strip().decode(USUAL, "replace")
    number = lines + data.count(b"\n", 0, at)
    return (
        f"expected UTF-8, got the byte {data[at]:#04x} in line {number}. Spreadsheets write {USUAL}, in which it says "
        f"{line!r}: if that is right, say --encoding {USUAL}, or save it as CSV UTF-8"
    )
