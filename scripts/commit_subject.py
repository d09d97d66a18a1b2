"""Checks the first line of a commit message: `scope: text`, 72 characters at most. Run by the commit-msg hook."""

from __future__ import annotations

import re
import sys
from pathlib import Path

LONGEST = 72
SUBJECT = re.compile(r"[a-z][\w./, -]*: \S.*")
WRITTEN_BY_GIT = ("Merge ", "Revert ", "fixup! ", "squash! ", "amend! ")


def faults(message: str) -> list[str]:
    """Return what is wrong with a commit message; lines that git leaves out begin with #."""
    lines = [line.rstrip() for line in message.splitlines() if not line.startswith("#")]
    subject = next((line for line in lines if line), "")
    if subject.startswith(WRITTEN_BY_GIT):
        return []
    found = []
    if len(subject) > LONGEST:
        found.append(f"the subject has {len(subject)} characters, expected {LONGEST} at most: {subject!r}")
    if not SUBJECT.fullmatch(subject):
        found.append(f"expected a subject like 'ingestion: wait for late topics', got {subject!r}")
    rest = lines[lines.index(subject) + 1 :] if subject else []
    if rest and rest[0]:
        found.append("expected an empty line between the subject and the body")
    return found


def main() -> None:
    """Check the message in the file that git names."""
    if found := faults(Path(sys.argv[1]).read_text(encoding="utf-8")):
        sys.exit("\n".join(found))


if __name__ == "__main__":
    main()
