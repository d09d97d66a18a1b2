"""Read a YAML document as plain values, with the line of every value.

Only what JSON can say is read: mappings, sequences and scalars. Plain scalars follow the YAML 1.2 core schema, so that
`off` and `no` are text, `1e-3` is a number and `1:30` is not. Anchors, aliases and tags are refused: they can make a
small document huge, or say more than the spec has words for.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Final

import yaml

from headrace_data.errors import Problem

MAX_BYTES: Final = 256 * 1024
"""Largest document, in bytes; a spec travels in events, which are no larger."""
MAX_DEPTH: Final = 32
"""Deepest nesting of a document."""
_INT: Final = re.compile(r"[-+]?[0-9]{1,40}")
_FLOAT: Final = re.compile(r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?")
_NOT_FINITE: Final = re.compile(r"[-+]?\.(inf|Inf|INF)|\.(nan|NaN|NAN)")
_WORDS: Final[dict[str, bool | None]] = {
    **dict.fromkeys(("true", "True", "TRUE"), True),
    **dict.fromkeys(("false", "False", "FALSE"), False),
    **dict.fromkeys(("null", "Null", "NULL", "~", "")),
}
_OPENING: Final = (
    yaml.BlockMappingStartToken,
    yaml.BlockSequenceStartToken,
    yaml.FlowMappingStartToken,
    yaml.FlowSequenceStartToken,
)
_CLOSING: Final = (yaml.BlockEndToken, yaml.FlowMappingEndToken, yaml.FlowSequenceEndToken)

Path = tuple[str | int, ...]
"""Keys and positions from the document's root."""
Plain = dict[str, "Plain"] | list["Plain"] | str | int | float | bool | None
"""A value that JSON can say."""


def path_text(path: Path) -> str:
    """Return a path as text, such as ``stream.schema[2].range``."""
    text = ""
    for part in path:
        text += f"[{part}]" if isinstance(part, int) else f".{part}" if text else part
    return text


@dataclass
class Tree:
    """A document's plain value, the line of each path, and the problems met while reading it."""

    value: Plain = None
    lines: dict[Path, int] = field(default_factory=dict)
    problems: list[Problem] = field(default_factory=list)

    def line(self, path: Path) -> int:
        """Return the line of a path, or of the nearest place around it that is there."""
        while path and path not in self.lines:
            path = path[:-1]
        return self.lines.get(path, 1)

    def report(self, path: Path, message: str, line: int | None = None) -> None:
        """Add a problem."""
        self.problems.append(Problem(self.line(path) if line is None else line, path_text(path), message))


def read_yaml(document: bytes | str) -> Tree:
    """Read a document. Its tree carries the problems; the value is None when there is no tree at all."""
    tree = Tree()
    text = _decode(document, tree)
    if text is None:
        return tree
    try:
        root = yaml.compose(text, Loader=yaml.SafeLoader) if _is_tame(text, tree) else None
    except yaml.MarkedYAMLError as error:
        tree.report((), f"bad YAML: {_syntax(error)}", _mark_line(error.problem_mark or error.context_mark))
        return tree
    except yaml.reader.ReaderError as error:
        line = text.count("\n", 0, error.position) + 1
        tree.report((), f"bad YAML: the character U+{ord(text[error.position]):04X} is not allowed", line)
        return tree
    if root is not None:
        tree.lines[()] = root.start_mark.line + 1
        tree.value = _Reader(tree).read(root, ())
    elif not tree.problems:
        tree.report((), "expected a mapping, got an empty document")
    return tree


def _is_tame(text: str, tree: Tree) -> bool:
    """Report anchors, aliases and tags; return whether the document may be composed at all."""
    depth = 0
    tame = True
    for token in _tokens(text):
        line = token.start_mark.line + 1
        depth += isinstance(token, _OPENING) - isinstance(token, _CLOSING)
        if depth > MAX_DEPTH:
            tree.report((), f"expected at most {MAX_DEPTH} levels, got more", line)
            return False
        if isinstance(token, yaml.AnchorToken | yaml.AliasToken):
            tree.report((), f"anchors and aliases are not supported: write the value of {token.value!r} out", line)
            tame = tame and isinstance(token, yaml.AnchorToken)
        elif isinstance(token, yaml.TagToken):
            tree.report((), f"tags are not supported, got {''.join(part or '' for part in token.value)!r}", line)
    return tame


def _tokens(text: str) -> Iterator[yaml.Token]:
    """Yield the tokens. Raises MarkedYAMLError and ReaderError."""
    last: yaml.Mark | None = None
    try:
        for token in yaml.scan(text, Loader=yaml.SafeLoader):
            last = token.end_mark
            yield token
    except (ValueError, OverflowError) as error:
        # Numbers in escapes and directives are converted unchecked.
        raise yaml.MarkedYAMLError(problem=f"a number is too large: {error}", problem_mark=last) from error


def _decode(document: bytes | str, tree: Tree) -> str | None:
    if len(document) > MAX_BYTES:
        tree.report((), f"expected at most {MAX_BYTES} bytes, got {len(document)}")
        return None
    if isinstance(document, str):
        return document.removeprefix("\ufeff")
    try:
        return document.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = document.count(b"\n", 0, error.start) + 1
        tree.report((), f"expected UTF-8, got the byte 0x{document[error.start]:02x}", line)
        return None


def _syntax(error: yaml.MarkedYAMLError) -> str:
    return ", ".join(str(part) for part in (error.context, error.problem) if part)


def _mark_line(mark: yaml.Mark | None) -> int:
    return 1 if mark is None else mark.line + 1


class _Reader:
    """Turns composed nodes into plain values."""

    def __init__(self, tree: Tree) -> None:
        self._tree = tree

    def read(self, node: yaml.Node, path: Path) -> Plain:
        if isinstance(node, yaml.MappingNode):
            return self._mapping(node, path)
        if isinstance(node, yaml.ScalarNode):
            return self._scalar(node, path)
        return [self._item(item, (*path, position)) for position, item in enumerate(node.value)]

    def _item(self, node: yaml.Node, path: Path) -> Plain:
        self._tree.lines[path] = node.start_mark.line + 1
        return self.read(node, path)

    def _mapping(self, node: yaml.MappingNode, path: Path) -> Plain:
        mapping: dict[str, Plain] = {}
        for key, value in self._pairs(node, path):
            place = (*path, key.value)
            line = key.start_mark.line + 1
            if key.value in mapping:
                first = self._tree.line(place)
                self._tree.report(place, f"the key is there twice: first in line {first}", line)
                continue
            self._tree.lines[place] = line
            mapping[key.value] = self.read(value, place)
        return mapping

    def _pairs(self, node: yaml.MappingNode, path: Path) -> Iterator[tuple[yaml.ScalarNode, yaml.Node]]:
        for key, value in node.value:
            if not isinstance(key, yaml.ScalarNode):
                self._tree.report(path, "expected a plain key, got a nested one", key.start_mark.line + 1)
            elif _is_broken(key.value):
                self._tree.report(path, "expected text as key, got half of a surrogate pair", key.start_mark.line + 1)
            else:
                yield key, value

    def _scalar(self, node: yaml.ScalarNode, path: Path) -> Plain:
        text = str(node.value)
        if _is_broken(text):
            self._tree.report(path, "expected text, got half of a surrogate pair")
            return None
        if node.style is not None:
            return text
        if text in _WORDS:
            return _WORDS[text]
        if _INT.fullmatch(text):
            return int(text)
        if _NOT_FINITE.fullmatch(text):
            self._tree.report(path, f"expected a finite number, got {text}")
            return None
        return self._float(text, path) if _FLOAT.fullmatch(text) else text

    def _float(self, text: str, path: Path) -> Plain:
        number = float(text)
        if abs(number) == float("inf"):
            self._tree.report(path, f"expected a number that a double can hold, got {text[:40]}")
            return None
        return number


def _is_broken(text: str) -> bool:
    return not text.isascii() and any("\ud800" <= character <= "\udfff" for character in text)
