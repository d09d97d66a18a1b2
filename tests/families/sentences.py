"""Sentences from the documentation of installed libraries, by the library: texts of people, which are on every machine.

The names of the libraries are left out of them, and every sentence is there once.
"""

from __future__ import annotations

import ast
import itertools
import random
import re
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import Any

LIBRARIES = ("scipy", "sklearn", "torch")
NAMES = re.compile(
    r"keras|numpy|\bnp\b|pyarrow|arrow|pydantic|scipy|scikit|sklearn|py?torch|transformers?", re.IGNORECASE
)
PLAIN = re.compile(r"[A-Z][^:`>_*|=]*\.")
SHORTEST, LONGEST = 40, 200


def rows(each: int, seed: int = 0) -> dict[str, dict[str, list[str]]]:
    """Return so many sentences of each library, in three splits: 20, 5 and 75 of a hundred."""
    mixed = random.Random(seed)
    found = {name: sorted(set(sentences(name))) for name in LIBRARIES}
    seen: dict[str, int] = {}
    for texts in found.values():
        for text in texts:
            seen[text] = seen.get(text, 0) + 1
    pairs = []
    for name, texts in found.items():
        own = [text for text in texts if seen[text] == 1]
        pairs += [(text, name) for text in mixed.sample(own, min(each, len(own)))]
    mixed.shuffle(pairs)
    ends = (0, int(0.2 * len(pairs)), int(0.25 * len(pairs)), len(pairs))
    return {
        split: {"texts": [text for text, _ in some], "labels": [label for _, label in some]}
        for split, some in zip(
            ("train", "validation", "test"), (pairs[a:b] for a, b in itertools.pairwise(ends)), strict=True
        )
    }


def sentences(library: str) -> Iterator[str]:
    """Yield the sentences of a library's docstrings, without names of libraries."""
    package = find_spec(library)
    assert package is not None
    assert package.origin is not None
    for path in sorted(Path(package.origin).parent.rglob("*.py")):
        if "test" in str(path):
            continue
        for text in docstrings(path):
            for paragraph in text.split("\n\n"):
                for sentence in re.split(r"(?<=\.)\s+", " ".join(paragraph.split())):
                    if SHORTEST <= len(sentence) <= LONGEST and PLAIN.fullmatch(sentence):
                        yield " ".join(NAMES.sub("", sentence).split())


def docstrings(path: Path) -> Iterator[str]:
    """Yield the docstrings of a file; none of one that cannot be read."""
    try:
        tree = ast.parse(path.read_text())
    except (SyntaxError, UnicodeDecodeError):
        return
    documented: Any = (ast.Module, ast.ClassDef, ast.FunctionDef)
    for node in ast.walk(tree):
        if isinstance(node, documented) and (text := ast.get_docstring(node)):
            yield text
