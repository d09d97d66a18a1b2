"""Functions of packages that an operator put beside the trainer: found by name, where the operator allows it.

The one place that imports what a pipeline names. Nothing is imported before its package was found in the list.
"""

import importlib
import signal
import sys
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.metadata import packages_distributions
from pathlib import Path
from typing import Any

from headrace_data.canonical import sha256_digest

from headrace_learning.errors import LearningError, NotLearnable

SETTING = "HEADRACE_FACTORY_PACKAGES"
"""The setting of the trainer that lists packages."""
_TOLD = 500
"""Characters of a foreign error that are repeated."""
MOST_S = 600.0
"""Seconds that code of others has for each thing before the first epoch. Large networks are imported, made and traced
in a tenth of it, also on a busy core; what waits for ever, such as for weights from a hub, would hold the trainer."""


@dataclass(frozen=True)
class Factory:
    """A function, and where it is from."""

    subject: str
    """What errors call it."""
    package: str
    """The package of the list that it is of."""
    function: Callable[..., Any]

    def make(self, shape: Sequence[int], outputs: int, arguments: Mapping[str, Any]) -> Any:
        """Call it. Raise `NotLearnable` for whatever it raises."""
        named = {"shape": tuple(shape), "outputs": outputs, **arguments}
        expected = f"{self.subject}: expected it to return when it is told {', '.join(named)}"
        with within(expected), told_as(expected):
            return self.function(**named)

    @property
    def distributions(self) -> tuple[str, ...]:
        """Names of what was installed and brought the package; none for a folder on the path."""
        return tuple(sorted(set(packages_distributions().get(self.package.partition(".")[0], ()))))

    def source_digest(self) -> str:
        """Return the digest of the package's files that are loaded. Raise `NotLearnable` for one in an archive."""
        loaded = {
            name: getattr(module, "__file__", None)
            for name, module in sorted(sys.modules.items())
            if _is_of(name, self.package)
        }
        with told_as(f"{self.subject}: expected {self.package} in files of its own, not within an archive"):
            files = {name: sha256_digest(Path(path).read_bytes()) for name, path in loaded.items() if path}
        return sha256_digest("\n".join(f"{name} {digest}" for name, digest in files.items()).encode())


def find_factory(name: str, packages: Sequence[str]) -> Factory:
    """Return the function ``package.module:function`` of one of the packages, or of one within them.

    Raise `NotLearnable` where it is of another package, cannot be imported, or is no function of the package itself.
    """
    place, _, attribute = name.partition(":")
    subject = f"train.network.factory {name}"
    package = next((each for each in packages if _is_of(place, each)), None)
    if package is None:
        known = ", ".join(packages) or "none"
        raise NotLearnable(
            f"{subject}: expected a function of a package that this trainer allows ({known}), got one of another; the "
            f"operator of the trainer lists packages in {SETTING}"
        )
    expected = f"{subject}: expected a module that can be imported"
    with within(expected), told_as(expected):
        module = importlib.import_module(place)
    function = getattr(module, attribute, None)
    # What a module has imported from elsewhere is no part of what was allowed.
    if not callable(function) or not _is_of(str(getattr(function, "__module__", "")), package):
        raise NotLearnable(f"{subject}: expected a function that is defined in {package}, got {function!r:.100}")
    return Factory(subject, package, function)


@contextmanager
def told_as(expected: str) -> Iterator[None]:
    """Turn what foreign code raises into `NotLearnable`: `expected`, then what came. Memory may suffice next time."""
    try:
        yield
    except (LearningError, MemoryError):
        raise
    except (Exception, SystemExit) as error:
        raise NotLearnable(f"{expected}, got {type(error).__name__}: {' '.join(str(error).split())[:_TOLD]}") from error


class _Late(BaseException):
    """Raised where the code is: no `except Exception` of it stops it."""


@contextmanager
def within(expected: str) -> Iterator[None]:
    """Stop code of others after `MOST_S`, and turn that into `NotLearnable`: `expected`, then how long it had.

    Waiting for a network or a lock, and a loop of Python's, are ended by a signal of the system's timer; a call into a
    library is ended when it returns. It is for the main thread, which runs are in: elsewhere nothing is bounded.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def ring(_signal: int, _frame: object) -> None:
        raise _Late

    former = signal.signal(signal.SIGALRM, ring)
    waiting = signal.setitimer(signal.ITIMER_REAL, MOST_S)
    try:
        yield
    except _Late:
        raise NotLearnable(f"{expected}, got none within {MOST_S:g} seconds") from None
    finally:
        signal.setitimer(signal.ITIMER_REAL, *waiting)
        signal.signal(signal.SIGALRM, former)


def _is_of(module: str, package: str) -> bool:
    return module == package or module.startswith(f"{package}.")
