"""Values of personal fields by hand: what is stored in the place of one, and what a token stands for.

Look-ups take what is stored. Whoever has the key makes it of the value; a service never does that for a caller.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from headrace_client.errors import InputInvalid

if TYPE_CHECKING:
    from headrace_data.private.treatment import Treatment
    from headrace_data.spec import Pipeline


def stored(pipeline: Pipeline, field: str, keys: Path) -> Callable[[str], str]:
    """Return what makes of a value of a field what the pipeline stores. Raises InputInvalid, and so does the function.

    `keys` is the folder with the key, a file by the name that the pipeline has.
    """
    import pyarrow as pa

    treatment = _treatment(pipeline, field, keys)

    def treated(value: str) -> str:
        return str(_told(lambda: treatment.treated(pa.array([value]))[0][0].as_py()))

    return treated


def revealed(pipeline: Pipeline, field: str, keys: Path) -> Callable[[str], str]:
    """Return what makes of a token of a field its value again. Raises InputInvalid, and so does the function."""
    from headrace_data.private.tokenize import Tokenize

    treatment = _treatment(pipeline, field, keys)
    if not isinstance(treatment, Tokenize):
        raise InputInvalid(f"{field}: expected a field that is tokenised: of another nobody gets back")
    return lambda token: _told(lambda: treatment.revealed(token))


def _treatment(pipeline: Pipeline, field: str, keys: Path) -> Treatment:
    from headrace_data.private import PrivateFields

    def key(name: str) -> bytes:
        try:
            return (keys / name).read_bytes()
        except OSError as error:
            raise InputInvalid(f"{keys / name}: expected the key, which cannot be read: {error.strerror}") from error

    known = PrivateFields(pipeline.stream, key).treatments
    if field not in known:
        raise InputInvalid(f"expected one of the fields that are treated ({', '.join(known) or 'none'}), got '{field}'")
    return known[field]


def _told(make: Callable[[], str]) -> str:
    from headrace_data.errors import KeyMissing

    try:
        return make()
    except (KeyMissing, ValueError) as error:
        raise InputInvalid(str(error)) from error
