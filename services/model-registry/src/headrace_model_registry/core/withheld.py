"""What a pipeline does not train on: a dataset that tells too little of a class, or teaches what is measured on it.

The dataset says what it is, and the spec in force whether that is enough. So a changed spec may take a dataset after
all, without another cut. Who trains on the one before goes on.
"""

from collections.abc import Iterator

from headrace_model_registry.core import specs
from headrace_model_registry.core.catalogue import Catalogue
from headrace_model_registry.core.facts import DatasetFrozen, PipelineSpec
from headrace_model_registry.core.progress import PipelineTroubled

PART = "dataset"
"""The part of a pipeline that has a trouble where nothing is trained on its newest dataset."""


def why_withheld(frozen: DatasetFrozen, spec: PipelineSpec) -> str:
    """Return why nothing is trained on a dataset by a spec, each reason; empty when something may be."""
    prepare = specs.parse(spec).prepare
    reasons: list[str] = []
    least, rarest = prepare.min_class_rows, frozen.rarest
    if least is not None and rarest is not None and rarest.rows < least:
        reasons.append(
            f"expected at least {least} rows of each class in each split, got {rarest.rows} of {rarest.label!r} in "
            f"{rarest.split}: more rows, another split, or a lower prepare.minClassRows"
        )
    leaks = frozen.leaks
    if prepare.leak == "stop" and leaks is not None and (leaks.exact or leaks.near):
        near = f" and {leaks.near} that nearly repeat one" if leaks.near else ""
        reasons.append(
            f"expected no training row in validation or test, too, got {leaks.exact} that are there{near}: "
            f"{', '.join(leaks.examples)}; a group in the schema keeps on one side what belongs together, and "
            "prepare.leak: report trains all the same"
        )
    return "; ".join(reasons)


def troubles(catalogue: Catalogue) -> Iterator[PipelineTroubled]:
    """Yield why nothing is trained on each pipeline's newest dataset, where that is so."""
    for name, applied in catalogue.pipelines.items():
        newest = catalogue.newest_dataset(name)
        if newest is None or specs.training_run_id(newest.frozen, applied.spec) in catalogue.runs:
            continue
        if reason := why_withheld(newest.frozen, applied.spec):
            told = f"nothing is trained on it: {reason}"
            subject = f"dataset {newest.frozen.dataset_id}"
            yield PipelineTroubled(name, PART, "model-registry", subject, told, newest.freeze_time)
