"""Memory that is kept when it is freed."""

from __future__ import annotations

import subprocess
import sys

CHILD = """
import resource
from headrace_runtime.process.freed_memory import keep_freed_memory

def faults():
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    for _ in range(20):
        bytearray(4_000_000)
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before

is_kept = keep_freed_memory()
first = faults()
print(int(is_kept), first, faults())
"""


def test_pages_are_not_asked_for_again() -> None:
    told = subprocess.run([sys.executable, "-c", CHILD], check=True, capture_output=True, text=True).stdout.split()
    is_kept, first, again = map(int, told)
    if is_kept:
        # 4 MB are 976 pages; each is asked for once at most.
        assert first < 2_000
        assert again < 100
