"""Everything that can go wrong in headrace_compressor.

::

    CompressionError
    └── NothingToMeasure   a dataset's test split gives nothing to measure a version on
"""


class CompressionError(Exception):
    """Base of every error of this package. No further attempt will do better: the pipeline's author must change it."""


class NothingToMeasure(CompressionError):
    """A dataset's test split gives nothing to measure a version on."""
