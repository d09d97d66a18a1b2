"""Keys that are to be forgotten: what is ordered for one, and which versions have seen it."""

import re
from collections.abc import Iterator

from headrace_runtime.errors import InvalidInput

from headrace_model_registry.core import specs
from headrace_model_registry.core.catalogue import Catalogue
from headrace_model_registry.core.facts.forgotten import Forget, KeyDigest
from headrace_model_registry.core.facts.pipelines import PipelineApplied, PipelineSpec

_SECRET = re.compile(r"[0-9a-f]{16}")
_MOST_BYTES = 700_000
"""Of the specs of an order together, the newest first: it is one message. Of more nobody heard."""
_DIGEST = re.compile(r"[0-9a-f]{32}")


def order(applied: PipelineApplied, key: KeyDigest | None, catalogue: Catalogue, *, retrain: bool) -> Forget:
    """Return what is ordered to forget a key. Raises InvalidInput for what is no digest, or of records without keys."""
    if key is None or not _SECRET.fullmatch(key.secret) or not _DIGEST.fullmatch(key.digest):
        raise InvalidInput("key: expected the digest of a key, with the id of the secret that it was made with")
    if specs.parse(applied.spec).stream.key_field is None:
        raise InvalidInput(
            f"pipeline {applied.pipeline!r}: expected records with a key, got none: neither stream.key nor a field "
            "with role id"
        )
    return Forget(key, tuple(_ever(applied.pipeline, catalogue)), retrain)


def _ever(pipeline: str, catalogue: Catalogue) -> Iterator[PipelineSpec]:
    """Yield every spec that pipelines of a name had, the newest first."""
    told, left = set[str](), _MOST_BYTES
    for home in catalogue.homes:
        for (name, digest), spec in reversed(home.specs.items()):
            if name == pipeline and digest not in told and (left := left - len(spec.json)) >= 0:
                told.add(digest)
                yield spec
