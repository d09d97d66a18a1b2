"""What the fake registry answers whatever it is told."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from headrace.registry.v1 import registry_service_pb2 as messages
from headrace.registry.v1 import registry_service_pb2_grpc as services


def digest(letter: str) -> str:
    """Return a digest of one letter."""
    return "sha256:" + letter * 64


class Answers(services.RegistryServiceServicer):
    """Answers that nobody chooses."""

    _seen: Callable[..., Any]

    def CollectGarbage(self, request: Any, context: Any) -> messages.CollectGarbageResponse:  # noqa: N802
        """Tell of objects of each fate, and of a version that was let go."""
        answer = messages.CollectGarbageResponse(
            counts=[
                messages.ObjectCount(fate=fate, kind=kind, objects=3, size_bytes=2_500_000)
                for fate, kind in (
                    (messages.OBJECT_FATE_REMOVED, "parts of datasets"),
                    (messages.OBJECT_FATE_MARKED, "documents"),
                    (messages.OBJECT_FATE_KEPT, "versions"),
                )
            ],
            retired=[messages.RetiredVersion(pipeline="penguins", model="species", ordinal=4, version_id="sha256:4")],
        )
        return self._seen(request, context, answer)

    def RecalibrateModel(self, request: Any, context: Any) -> messages.RecalibrateModelResponse:  # noqa: N802
        """Tell of a run."""
        return self._seen(request, context, messages.RecalibrateModelResponse(run_id="recalibrate-7"))
