"""The process beside: `python -m headrace_inference.transport.rest.beside_child FD`. See `beside`."""

from __future__ import annotations

from headrace_inference.transport.other_process import Told, run
from headrace_inference.transport.rest.works import WORKS


def _work(told: Told, body: bytes) -> tuple[Told, bytes]:
    return WORKS[told.pop("work")](told, body)


if __name__ == "__main__":
    run(_work)
