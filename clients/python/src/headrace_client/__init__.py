"""A light Headrace client: the registry, ingestion, inference, and the `headrace` command.

Names are loaded when they are first used: the command starts faster, and importing this package imports no gRPC.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from headrace_client.addresses import Addresses, find_addresses
    from headrace_client.conversing import Part, Turn
    from headrace_client.errors import HeadraceClientError
    from headrace_client.explanation import Explanation, explain_rows
    from headrace_client.inference import InferenceClient, InferenceResult, ModelMetadata
    from headrace_client.ingestion import IngestionClient
    from headrace_client.prediction import Prediction, predict_rows
    from headrace_client.registry import RegistryClient
    from headrace_client.stages import Goal
    from headrace_client.tensors import TensorSpec
    from headrace_client.waiting import Progress, freeze, wait_for, wait_served

__all__ = [
    "Addresses",
    "Explanation",
    "Goal",
    "HeadraceClientError",
    "InferenceClient",
    "InferenceResult",
    "IngestionClient",
    "ModelMetadata",
    "Part",
    "Prediction",
    "Progress",
    "RecordRejected",
    "RegistryClient",
    "TensorSpec",
    "Turn",
    "explain_rows",
    "find_addresses",
    "freeze",
    "predict_records",
    "predict_rows",
    "wait_for",
    "wait_served",
]

_MODULES = {
    "addresses": ("Addresses", "find_addresses"),
    "conversing": ("Part", "Turn"),
    "errors": ("HeadraceClientError",),
    "explanation": ("Explanation", "explain_rows"),
    "inference": ("InferenceClient", "InferenceResult", "ModelMetadata"),
    "ingestion": ("IngestionClient",),
    "prediction": ("Prediction", "predict_rows"),
    "records": ("RecordRejected", "predict_records"),
    "registry": ("RegistryClient",),
    "stages": ("Goal",),
    "tensors": ("TensorSpec",),
    "waiting": ("Progress", "freeze", "wait_for", "wait_served"),
}
_HOMES = {name: module for module, names in _MODULES.items() for name in names}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)
