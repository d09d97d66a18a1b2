"""Figures of several rounds, and the machine that they come from."""

from __future__ import annotations

import os
import platform
import statistics
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

import psutil  # type: ignore[import-untyped]

PACKAGES = ("grpcio", "protobuf", "onnxruntime", "kafka-python", "pyarrow", "opentelemetry-sdk", "torch")


@dataclass(frozen=True, slots=True)
class Measured:
    """What one part of the benchmarks found."""

    tables: str
    """Markdown."""
    raw: Any
    """Every round's figures, as JSON values."""


def values(one: Any) -> dict[str, float]:
    """Return the figures of one round, rounded to what they are worth."""
    return {name: round(value, 3) for name, value in asdict(one).items()}


def share(done: Sequence[float], reference: Sequence[float]) -> str:
    """Return the median of the rounds' ratios, with the least and the greatest, such as `0.91 [0.88-0.95]`."""
    return spread([one / other for one, other in zip(done, reference, strict=True)], 2)


def spread(values: Sequence[float], digits: int = 0) -> str:
    """Return the median of some rounds with the least and the greatest, such as `812 [790-840]`."""
    middle, least, most = (f"{value:,.{digits}f}" for value in (statistics.median(values), min(values), max(values)))
    return f"{middle} [{least}-{most}]"


def cpu_s(pid: int) -> float:
    """Return the seconds of CPU that a process has used, in user mode and in the kernel."""
    times = psutil.Process(pid).cpu_times()
    return float(times.user + times.system)


def machine() -> str:
    """Return a line about this machine, its load and the versions of what is measured."""
    memory_gib = psutil.virtual_memory().total / 2**30
    load = ", ".join(f"{value:.1f}" for value in os.getloadavg())
    packages = ", ".join(f"{name} {version(name)}" for name in PACKAGES)
    return (
        f"{_processor()}, {os.cpu_count()} cores, {memory_gib:.0f} GiB, {platform.system()} {platform.release()}, "
        f"Python {platform.python_version()}, load average {load}\n{packages}"
    )


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        lines = []
    names = (line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    return next(names, platform.processor() or platform.machine())


def table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Return a Markdown table; all columns but the first are aligned to the right."""
    widths = [max(len(row[place]) for row in (head, *rows)) for place in range(len(head))]
    rule = ["-" * widths[0], *("-" * (width - 1) + ":" for width in widths[1:])]
    lines = [_line(head, widths), f"| {' | '.join(rule)} |", *(_line(row, widths) for row in rows)]
    return "\n".join(lines)


def _line(cells: Sequence[str], widths: Sequence[int]) -> str:
    first, *others = zip(cells, widths, strict=True)
    padded = [first[0].ljust(first[1]), *(cell.rjust(width) for cell, width in others)]
    return f"| {' | '.join(padded)} |"
