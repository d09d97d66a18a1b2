"""Which class a processor belongs to: latencies and the kernels behind them hold for one class only.

The compressor names the class that it measured on, and a replica looks up what was measured on its own.
"""

import platform
from pathlib import Path
from typing import Final

_CPUINFO: Final = Path("/proc/cpuinfo")

_CLASSES = (
    # Best first: a processor has the flags of the classes below its own as well.
    ("amx_int8", "amx-int8"),
    ("avx512_vnni", "avx512-vnni"),
    ("avx_vnni", "avx-vnni"),
    ("avx512f", "avx512"),
    ("avx2", "avx2"),
    ("i8mm", "arm64-i8mm"),
    ("asimddp", "arm64-dotprod"),
)
_WIDE = frozenset({"amx-int8", "avx512-vnni", "avx-vnni", "arm64-i8mm", "arm64-dotprod"})
_MACHINES = {"x86_64": "x86-64", "amd64": "x86-64", "aarch64": "arm64", "arm64": "arm64"}


def own_class() -> str:
    """Return the class of the processor that this process runs on."""
    return cpu_class(_CPUINFO.read_text() if _CPUINFO.exists() else "", platform.machine())


def cpu_class(cpuinfo: str, machine: str) -> str:
    """Return the best instruction set for int8 that a processor has, such as "avx2" or "avx512-vnni".

    `cpuinfo` is the text of /proc/cpuinfo, empty where there is none; then the answer is the architecture that
    `machine` names, as platform.machine() does.
    """
    flags = _flags(cpuinfo)
    for flag, name in _CLASSES:
        if flag in flags:
            return name
    return _MACHINES.get(machine.lower(), machine.lower() or "unknown")


def adds_in_32_bits(name: str) -> bool:
    """Tell whether a class has instructions that add products of 8 bits in 32: others add two of them in 16.

    Two products of a uint8 and a full int8 do not fit there, and are cut off without a word.
    """
    return name in _WIDE


def _flags(cpuinfo: str) -> set[str]:
    for line in cpuinfo.splitlines():
        name, _, value = line.partition(":")
        # x86 says flags, ARM says Features; every core repeats them.
        if name.strip() in {"flags", "Features"}:
            return set(value.split())
    return set()
