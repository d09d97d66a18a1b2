"""What the fake registry answers whatever it is told."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import grpc
from headrace import open_inference
from headrace.events.v1.canary_pb2 import CANARY_VERDICT_WORSE, CanaryFigure, CanaryJudged
from headrace.events.v1.evaluation_pb2 import Bounded, TrainingDecided
from headrace.events.v1.rollout_pb2 import (
    ROLLOUT_OUTCOME_ROLLED_BACK,
    ROLLOUT_STAGE_CANARY,
    ROLLOUT_STAGE_SHADOW,
    RolloutCounts,
)
from headrace.registry.v1 import proof_pb2
from headrace.registry.v1 import registry_service_pb2 as messages
from headrace.registry.v1 import registry_service_pb2_grpc as services


def digest(letter: str) -> str:
    """Return a digest of one letter."""
    return "sha256:" + letter * 64


class Answers(services.RegistryServiceServicer):
    """Answers that nobody chooses."""

    _seen: Callable[..., Any]
    log: tuple[tuple[int, bytes], ...] = ()
    """Offsets and bytes of the log's entries."""
    head = proof_pb2.LogHead()
    forgotten: Sequence[messages.ForgottenKey] = ()
    """Tests give one a list of its own."""
    held: Sequence[messages.Held] = ()
    """Segments that are held."""

    def ListHeldSegments(self, request: Any, context: Any) -> messages.ListHeldSegmentsResponse:  # noqa: N802
        """List the segments that a test has chosen."""
        return self._seen(request, context, messages.ListHeldSegmentsResponse(held=self.held))

    def GetLogHead(self, request: Any, context: Any) -> proof_pb2.GetLogHeadResponse:  # noqa: N802
        """Tell the head that a test has chosen."""
        return self._seen(request, context, proof_pb2.GetLogHeadResponse(head=self.head))

    def ReadLog(self, request: Any, context: Any) -> Iterator[proof_pb2.ReadLogResponse]:  # noqa: N802
        """Stream the log that a test has chosen, two entries in an answer."""
        lines = [proof_pb2.LogLine(offset=offset, value=value) for offset, value in self.log]
        for start in range(0, len(lines), 2):
            yield proof_pb2.ReadLogResponse(lines=lines[start : start + 2])

    def ProvePrediction(self, request: Any, context: Any) -> proof_pb2.ProvePredictionResponse:  # noqa: N802
        """Prove nothing."""
        return self._seen(request, context, proof_pb2.ProvePredictionResponse(proof=b"{}"))

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

    def MoveRollout(self, request: Any, context: Any) -> messages.MoveRolloutResponse:  # noqa: N802
        """Tell of a rollout."""
        return self._seen(request, context, messages.MoveRolloutResponse(rollout=candidate()))

    def ListRollouts(self, request: Any, context: Any) -> messages.ListRolloutsResponse:  # noqa: N802
        """Tell of one that went back, and one under way."""
        counts = RolloutCounts(candidate_calls=118, failed=5, candidate_times=[0] * 20 + [118])
        back = messages.Rollout(
            model="digits",
            ordinal=2,
            stage=ROLLOUT_STAGE_CANARY,
            share=10,
            step=1,
            steps=3,
            reason="with 10 % of the calls: 5 of 123 calls failed, limit 1.00%",
            outcome=ROLLOUT_OUTCOME_ROLLED_BACK,
            counts=counts,
        )
        back.end_time.FromJsonString("2026-05-17T12:30:00Z")
        back.quality.candidate_rows, back.quality.champion_rows = 40, 0
        back.quality.candidate.CopyFrom(Bounded(name="accuracy", value=0.7, low=0.6, high=0.8))
        return self._seen(request, context, messages.ListRolloutsResponse(rollouts=[back, candidate()]))

    def TryCanary(self, request: Any, context: Any) -> messages.TryCanaryResponse:  # noqa: N802
        """Tell of a run."""
        return self._seen(request, context, messages.TryCanaryResponse(run_id="canary-7"))

    def ListCanaries(self, request: Any, context: Any) -> messages.ListCanariesResponse:  # noqa: N802
        """Tell that a version is worse."""
        judged = CanaryJudged(
            run_id="canary-7",
            rows=500,
            unseen_rows=300,
            segments=3,
            since_us=1_779_000_000_000_000,
            until_us=1_779_086_400_000_000,
            measure="accuracy",
            verdict=CANARY_VERDICT_WORSE,
            measures=[CanaryFigure(name="accuracy", rows=500, candidate=0.91, champion=0.95, low=-0.06, high=-0.02)],
            slices=[CanaryFigure(name="slice/site=north/accuracy", rows=40, candidate=0.5, champion=0.9)],
            alike={"agreement": 0.93},
            certainty=0.95,
        )
        found = messages.Canary(judged=judged, model="digits", ordinal=3, champion_ordinal=2)
        return self._seen(request, context, messages.ListCanariesResponse(canaries=[found]))

    def ForgetKey(self, request: Any, context: Any) -> messages.ForgetKeyResponse:  # noqa: N802
        """Take the request."""
        return self._seen(request, context, messages.ForgetKeyResponse(request_id="request-7"))

    def ListForgottenKeys(self, request: Any, context: Any) -> messages.ListForgottenKeysResponse:  # noqa: N802
        """Tell what was forgotten."""
        return self._seen(request, context, messages.ListForgottenKeysResponse(keys=self.forgotten))

    def RecalibrateModel(self, request: Any, context: Any) -> messages.RecalibrateModelResponse:  # noqa: N802
        """Tell of a run."""
        return self._seen(request, context, messages.RecalibrateModelResponse(run_id="recalibrate-7"))

    def ListDecisions(self, request: Any, context: Any) -> messages.ListDecisionsResponse:  # noqa: N802
        """Tell of two datasets, the second of which is not trained on."""
        decided = [
            TrainingDecided(pipeline="digits", dataset_id=digest("d"), cause=cause, trained=trained, reason=reason)
            for cause, trained, reason in (
                ("first", True, "trained because no version is served yet"),
                ("quiet", False, "not trained because accuracy is 0.96 on the new rows"),
            )
        ]
        answer = messages.ListDecisionsResponse(decisions=[messages.Decided(decided=each) for each in decided])
        return self._seen(request, context, answer)

    def ListEvaluations(self, request: Any, context: Any) -> messages.ListEvaluationsResponse:  # noqa: N802
        """Tell of none."""
        return self._seen(request, context, messages.ListEvaluationsResponse())


def candidate() -> messages.Rollout:
    """Return a rollout that is in the shadow."""
    rollout = messages.Rollout(model="digits", ordinal=3, stage=ROLLOUT_STAGE_SHADOW, steps=4)
    rollout.reason = "12 of 100 calls have come"
    rollout.begin_time.FromJsonString("2026-05-17T12:31:00Z")
    return rollout


def word_by_word(words: list[Any], seen: list[Any]) -> grpc.RpcMethodHandler[Any, Any]:
    """Return what answers a call of ModelStreamInfer with one word in each message, and tells of the end in one more.

    A status and its details in place of a word end it.
    """

    def answer(requests: Iterator[Any], context: grpc.ServicerContext) -> Iterator[Any]:
        for request in requests:
            seen.append(request)
            for word in [*words, ""]:
                if isinstance(word, tuple):
                    context.abort(*word)
                yield _message(request.model_name, word)

    return grpc.stream_stream_rpc_method_handler(
        answer,
        request_deserializer=open_inference.ModelInferRequest.FromString,
        response_serializer=open_inference.ModelStreamInferResponse.SerializeToString,
    )


def _message(model: str, word: str) -> Any:
    message = open_inference.ModelStreamInferResponse()
    answer = message.infer_response
    answer.model_name, answer.model_version = model, "2"
    answer.parameters["variant"].string_param = "q4"
    answer.parameters["triton_final_response"].bool_param = not word
    if not word:
        answer.parameters["prediction_id"].string_param = "prediction-1"
        return message
    text = word.encode()
    outputs = {"text_output": ("BYTES", len(text).to_bytes(4, "little") + text)}
    outputs |= {"num_output_tokens": ("UINT32", (1).to_bytes(4, "little"))}
    for name, (datatype, raw) in outputs.items():
        answer.outputs.add(name=name, datatype=datatype, shape=[1])
        answer.raw_output_contents.append(raw)
    return message
