"""Whether a file or a folder can become a version of a pipeline, found out before it is put in force."""

from headrace_data.manifest import Manifest
from headrace_data.spec import CausalLanguageModel, EncoderNetwork, ImportedModel, Pipeline

from headrace_learning.building import features_of
from headrace_learning.families import encoder, imported
from headrace_learning.importing.core import Core, tried
from headrace_learning.importing.fit import fit
from headrace_learning.language_models.base import LanguageBase
from headrace_learning.training.objectives import Classification, Regression
from headrace_learning.training.ports import Artifacts


def check_import(data: bytes, section: ImportedModel, pipeline: Pipeline, dataset: Manifest | None) -> Core:
    """Read a file and try it on sample rows, as the trainer will; return it.

    With the newest `dataset` of the pipeline it must fit its features and its label too. Raise `NotLearnable`.
    """
    core = imported.read(data, section, pipeline.train.seed)
    tried(core)
    if dataset is not None:
        shape = imported.FAMILY.input_shape(features_of(pipeline, dataset.transforms))
        is_number = pipeline.task == "regression"
        objective = Regression(1.0) if is_number else Classification()
        fit(core, section, objective, shape, () if is_number else dataset.classes)
    return core


def check_encoder(section: EncoderNetwork, artifacts: Artifacts, texts: int) -> int:
    """Read a folder as the trainer will; return how many numbers its weights are. Raise `NotLearnable`.

    `texts` is how many a row has.
    """
    opened = encoder.FAMILY.opened(section, artifacts)
    opened.require_types(texts)
    return opened.base.numbers


def check_language(section: CausalLanguageModel, artifacts: Artifacts) -> tuple[str, int]:
    """Read a model of language as the trainer will, and ask its template for a prompt.

    Return its kind and how many numbers its weights are. Raise `NotLearnable`.
    """
    base = LanguageBase.read(section, artifacts)
    base.words.encoded([base.words.prompt("a prompt")])
    return base.shape.architecture, base.numbers
