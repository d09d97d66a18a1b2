"""Reads the fields of a JSON object one by one, and refuses what it does not know."""

from __future__ import annotations

from typing import Any

from headrace_runtime.errors import InvalidInput

from headrace_inference.transport.rest.reading import shown


class Fields:
    """The fields of an object that are not null. Errors name them: `where` is what stands before their names."""

    def __init__(self, value: Any, where: str = "") -> None:
        """Raise InvalidInput for anything but an object."""
        if type(value) is not dict:
            raise InvalidInput(f"{where.rstrip('.') or 'body'}: expected an object, got {shown(value)}")
        self._where = where
        self._left: dict[str, Any] = {name: each for name, each in value.items() if each is not None}

    def any(self, name: str) -> Any:
        """Return a field, None without it."""
        return self._left.pop(name, None)

    def text(self, name: str) -> str | None:
        """Return a text, None without it."""
        found = self.any(name)
        return found if found is None or type(found) is str else self.refuse(name, "a text", found)

    def needed_text(self, name: str) -> str:
        """Return a text that has to be there."""
        found = self.text(name)
        return self.refuse(name, "a text", None) if found is None else found

    def whole(self, name: str) -> int | None:
        """Return a whole number, None without it."""
        found = self.any(name)
        return found if found is None or type(found) is int else self.refuse(name, "a whole number", found)

    def number(self, name: str) -> float | None:
        """Return a number, None without it."""
        found: float | None = self.any(name)
        if found is not None and type(found) not in {int, float}:
            self.refuse(name, "a number", found)
        return found

    def flag(self, name: str, default: bool = False) -> bool:
        """Return true or false; `default` without it."""
        found = self.any(name)
        if found is None:
            return default
        return found if type(found) is bool else self.refuse(name, "true or false", found)

    def only(self, name: str, *allowed: Any) -> None:
        """Take nothing but these values: what else clients may ask for is not done here."""
        found = self.any(name)
        if found is not None and not any(type(found) is type(each) and found == each for each in allowed):
            self.refuse(name, " or ".join(map(shown, allowed)) if allowed else "none", found)

    def left_out(self, *names: str) -> None:
        """Take these fields, which change no answer, as they come."""
        for name in names:
            self._left.pop(name, None)

    def end(self) -> None:
        """Refuse what has not been read."""
        for name, found in self._left.items():
            self.refuse(name, "no such field", found)

    def refuse(self, name: str, expected: str, got: Any) -> Any:
        """Raise InvalidInput for a field."""
        told = "nothing" if got is None else shown(got)
        raise InvalidInput(f"{self._where}{name}: expected {expected}, got {told}")


def named(model: str) -> tuple[str, str]:
    """Return model and version of NAME or NAME@VERSION."""
    name, _, version = model.partition("@")
    return name, version
