"""Everything that can go wrong in headrace_engines.

::

    EngineError
    ├── NotAModel     the bytes are no model that an engine here can run
    ├── RanTooLong    a run took more time than it may
    ├── NoMemory      there was no memory for a run
    ├── Unanswerable  the model cannot compute with the values it was given
    ├── Busy          too much waits already
    └── EngineDied    the process of an engine ended, with all that it had begun
"""


class EngineError(Exception):
    """Base of every error of this package."""


class NotAModel(EngineError):
    """The bytes are no model that an engine here can run."""


class RanTooLong(EngineError):
    """A run took more time than it may, and was ended."""


class NoMemory(EngineError):
    """There was no memory for a run."""


class Unanswerable(EngineError):
    """The model cannot compute with the values it was given."""


class Busy(EngineError):
    """Too much waits already: the same may be answered later."""


class EngineDied(EngineError):
    """The process of an engine ended, with all that it had begun. It is started again: the same may be answered."""
