"""A light Headrace client: the registry, inference, and the `headrace` command."""

from headrace_client.addresses import Addresses, find_addresses
from headrace_client.inference import InferenceClient, InferenceResult, ModelMetadata
from headrace_client.prediction import Prediction, predict_rows
from headrace_client.registry import RegistryClient
from headrace_client.stages import Goal
from headrace_client.tensors import TensorSpec
from headrace_client.waiting import Progress, freeze, wait_for

__all__ = [
    "Addresses",
    "Goal",
    "InferenceClient",
    "InferenceResult",
    "ModelMetadata",
    "Prediction",
    "Progress",
    "RegistryClient",
    "TensorSpec",
    "find_addresses",
    "freeze",
    "predict_rows",
    "wait_for",
]
