"""The pipeline spec: the YAML document, its models, its rules and its canonical form."""

from headrace_data.errors import Problem, SpecInvalid
from headrace_data.spec.augment import Augment
from headrace_data.spec.cleaning import Gaps, Outliers
from headrace_data.spec.compute import Compute
from headrace_data.spec.labels import Labels
from headrace_data.spec.learn import (
    Budget,
    Compress,
    EarlyStop,
    Gates,
    Threshold,
    Train,
)
from headrace_data.spec.loading import json_schema, load_pipeline, parse_canonical
from headrace_data.spec.networks import (
    CausalLanguageModel,
    CnnNetwork,
    EncoderNetwork,
    ImportedModel,
    Kept,
    MlpNetwork,
    Network,
    NewLanguageModel,
    PythonNetwork,
    ResidualNetwork,
    TreesModel,
)
from headrace_data.spec.optimizer import Optimizer
from headrace_data.spec.pipeline import Metadata, Pipeline, own_name
from headrace_data.spec.prepare import (
    Clean,
    Freeze,
    Last,
    Newest,
    Prepare,
    Split,
    Window,
)
from headrace_data.spec.privacy import Privacy
from headrace_data.spec.private_fields import PrivateFields
from headrace_data.spec.serve import Bounds, Objective, Serve
from headrace_data.spec.stream import Field, Stream
from headrace_data.spec.texts import NearDuplicates, Personal
from headrace_data.spec.transfer import NamedVersion, named_version
from headrace_data.spec.transform import Constant, Encode, Impute, Scale, Transform
from headrace_data.spec.tune import Between, Tune, with_values
from headrace_data.spec.variants import (
    REFERENCE_VARIANT,
    VARIANT_NAMES,
    AnyVariant,
    AwareVariant,
    Chain,
    DistilledVariant,
    LowRankVariant,
    PrunedVariant,
    ShallowerEncoder,
    StaticVariant,
    TextVariant,
    Variant,
    learns,
)

__all__ = [
    "REFERENCE_VARIANT",
    "VARIANT_NAMES",
    "AnyVariant",
    "Augment",
    "AwareVariant",
    "Between",
    "Bounds",
    "Budget",
    "CausalLanguageModel",
    "Chain",
    "Clean",
    "CnnNetwork",
    "Compress",
    "Compute",
    "Constant",
    "DistilledVariant",
    "EarlyStop",
    "Encode",
    "EncoderNetwork",
    "Field",
    "Freeze",
    "Gaps",
    "Gates",
    "ImportedModel",
    "Impute",
    "Kept",
    "Labels",
    "Last",
    "LowRankVariant",
    "Metadata",
    "MlpNetwork",
    "NamedVersion",
    "NearDuplicates",
    "Network",
    "NewLanguageModel",
    "Newest",
    "Objective",
    "Optimizer",
    "Outliers",
    "Personal",
    "Pipeline",
    "Prepare",
    "Privacy",
    "PrivateFields",
    "Problem",
    "PrunedVariant",
    "PythonNetwork",
    "ResidualNetwork",
    "Scale",
    "Serve",
    "ShallowerEncoder",
    "SpecInvalid",
    "Split",
    "StaticVariant",
    "Stream",
    "TextVariant",
    "Threshold",
    "Train",
    "Transform",
    "TreesModel",
    "Tune",
    "Variant",
    "Window",
    "json_schema",
    "learns",
    "load_pipeline",
    "named_version",
    "own_name",
    "parse_canonical",
    "with_values",
]
