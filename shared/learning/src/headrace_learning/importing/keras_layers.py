"""Which parts of Keras a file may name. Whatever is not listed is refused before Keras sees it.

Layers that run code of the file's maker (Lambda), read other files (StringLookup, TextVectorization, TFSMLayer), or are
the maker's own, are not in the list.
"""

from collections.abc import Iterator, Mapping
from typing import Any, Final

from headrace_learning.errors import NotLearnable
from headrace_learning.importing.keras_files import SUBJECT

_MOST_PARTS = 20_000


def _words(text: str) -> frozenset[str]:
    return frozenset(text.split())


_MODULES: Final = {
    None,
    "keras",
    "keras.layers",
    "keras.models",
    "keras.initializers",
    "keras.regularizers",
    "keras.constraints",
    "keras.activations",
    "keras.src.models.functional",
    "keras.src.models.sequential",
    "keras.src.models.model",
    "keras.src.ops.numpy",
    "keras.src.ops.nn",
}
_MODELS: Final = {"Sequential", "Functional", "Model"}
_LAYERS: Final = _words(
    """
    InputLayer Dense EinsumDense Embedding Identity Activation Softmax ReLU LeakyReLU PReLU ELU
    Conv1D Conv2D Conv3D Conv1DTranspose Conv2DTranspose Conv3DTranspose DepthwiseConv1D DepthwiseConv2D
    SeparableConv1D SeparableConv2D MaxPooling1D MaxPooling2D MaxPooling3D AveragePooling1D AveragePooling2D
    AveragePooling3D GlobalMaxPooling1D GlobalMaxPooling2D GlobalMaxPooling3D GlobalAveragePooling1D
    GlobalAveragePooling2D GlobalAveragePooling3D Flatten Reshape Permute RepeatVector Cropping1D Cropping2D Cropping3D
    ZeroPadding1D ZeroPadding2D ZeroPadding3D UpSampling1D UpSampling2D UpSampling3D Concatenate Add Subtract Multiply
    Average Maximum Minimum Dot Dropout SpatialDropout1D SpatialDropout2D SpatialDropout3D GaussianNoise GaussianDropout
    AlphaDropout ActivityRegularization Masking BatchNormalization LayerNormalization GroupNormalization
    RMSNormalization UnitNormalization Normalization Rescaling LSTM GRU SimpleRNN RNN LSTMCell GRUCell SimpleRNNCell
    StackedRNNCells Bidirectional TimeDistributed MultiHeadAttention GroupedQueryAttention GroupQueryAttention Attention
    AdditiveAttention
    """
)
_OPERATIONS: Final = _words(
    """
    Add Subtract Multiply Divide TrueDivide Matmul Maximum Minimum Abs Absolute Negative Square Sqrt Exp Log Log1p Tanh
    Power Mean Sum Max Min Reshape Transpose Concatenate Stack ExpandDims Squeeze Relu Relu6 Sigmoid Softmax Softplus
    Silu Gelu Elu LeakyRelu HardSigmoid HardSilu Clip GetItem
    """
)
_BESIDE: Final = _words(
    """
    DTypePolicy Policy __keras_tensor__ __ellipsis__ __slice__
    Zeros Ones Constant Identity Orthogonal OrthogonalInitializer RandomNormal RandomUniform TruncatedNormal
    VarianceScaling GlorotNormal GlorotUniform HeNormal HeUniform LecunNormal LecunUniform
    L1 L2 L1L2 OrthogonalRegularizer MaxNorm MinMaxNorm NonNeg UnitNorm
    """
)
_KNOWN: Final = _MODELS | _LAYERS | _OPERATIONS | _BESIDE
_REASONS: Final = {
    "Lambda": "it holds code, which is never run; put built-in layers in its place",
    "function": "it names a function of your own, which is not in the file; name a built-in activation",
    "__lambda__": "it holds code, which is never run",
}


def require_known_parts(config: Mapping[str, Any]) -> None:
    """Demand that a model is made of parts that are listed here, and computes in float32. Raise `NotLearnable`."""
    if config.get("class_name") not in _MODELS:
        raise NotLearnable(
            f"{SUBJECT}: expected a Sequential or Functional model, got {str(config.get('class_name'))[:80]!r}; a "
            "subclass of Model has its code elsewhere"
        )
    for count, part in enumerate(_parts(config), start=1):
        if count > _MOST_PARTS:
            raise NotLearnable(f"{SUBJECT}: expected at most {_MOST_PARTS:,} parts, got more")
        _require_known(part)


def _parts(config: Mapping[str, Any]) -> Iterator[Mapping[str, Any]]:
    """Yield everything that is built of a config, from the outside in."""
    waiting: list[Any] = [config]
    while waiting:
        value = waiting.pop()
        if isinstance(value, dict):
            if "class_name" in value or "registered_name" in value:
                yield value
            waiting.extend(value.values())
        elif isinstance(value, list):
            waiting.extend(value)


def _require_known(part: Mapping[str, Any]) -> None:
    name, module, registered = part.get("class_name"), part.get("module"), part.get("registered_name")
    if not isinstance(name, str) or name not in _KNOWN:
        reason = _REASONS.get(name if isinstance(name, str) else "", "it is not known here")
        raise NotLearnable(f"{SUBJECT}: expected built-in layers of Keras, got {str(name)[:80]!r}: {reason}")
    if module not in _MODULES or registered not in (None, name):
        raise NotLearnable(
            f"{SUBJECT}: expected built-in layers of Keras, got {name!r} of {str(module)[:80]!r}, registered as "
            f"{str(registered)[:80]!r}"
        )
    settings = part.get("config")
    policy = (
        settings.get("name" if name in ("DTypePolicy", "Policy") else "dtype") if isinstance(settings, dict) else None
    )
    if isinstance(policy, str) and "float" in policy and policy != "float32":
        raise NotLearnable(
            f"{SUBJECT}: expected layers of float32, got {str(policy)[:80]!r}; save it under the policy float32"
        )
