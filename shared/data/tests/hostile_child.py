"""A process as reads files, whose reader does what a file says: what a fault in a library lets a file do."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Mapping
from contextlib import suppress
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from headrace_data.formats.file_child import Read, main
else:
    # Without the rest of the package, as the process that it stands for.
    sys.path.append(str(Path(find_spec("headrace_data").origin).parent / "formats"))
    from file_child import main


def lie(answer: bytes) -> None:
    for descriptor in range(3, 10):
        with suppress(OSError):
            os.write(descriptor, answer)


def hostile_reader(_: Mapping[str, Any]) -> Read:
    def read(data: bytes) -> tuple[dict[str, Any], bytes]:
        word, _, rest = data.partition(b" ")
        if word == b"hang":
            while True:
                pass
        if word == b"eat":
            return {}, bytes(2**31)
        if word == b"write":
            os.write(1, b"nobody reads this")
            with open(rest, "wb") as file:  # noqa: PTH123
                file.write(b"x")
        if word == b"lie":
            lie(rest)
        if word == b"once":
            os.kill(os.getpid(), signal.SIGKILL) if not os.path.exists(rest) else None  # noqa: PTH110
        if word.startswith(b"SIG"):
            os.kill(os.getpid(), getattr(signal, word.decode()))
        if word == b"exit":
            os._exit(3)
        return {"told": word.decode()}, rest

    return read


main(sys.argv[1:], {"hostile": hostile_reader})
