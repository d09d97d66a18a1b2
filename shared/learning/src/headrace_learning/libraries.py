"""Libraries that come with an extra, imported where they are needed."""

import importlib
from typing import Any

from headrace_learning.errors import NotLearnable

_NEEDED_BY = {"encoder": "an encoder", "generation": "a language model"}


def library(name: str, extra: str) -> Any:
    """Return a library of an extra. Raise `NotLearnable` where it is missing, with what to install."""
    try:
        return importlib.import_module(name)
    except ImportError as error:
        raise NotLearnable(
            f"train.network.kind: {_NEEDED_BY[extra]} needs {name}, which is not here: install "
            f"headrace-learning[{extra}] beside it ({error})"
        ) from error
