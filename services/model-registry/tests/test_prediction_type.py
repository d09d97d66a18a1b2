"""In which type a regression answers: settled when a pipeline is applied, and kept afterwards."""

import pytest
from headrace_data.spec import load_pipeline
from headrace_model_registry.core.facts import PipelineSpec
from headrace_model_registry.core.specs import settled

DOCUMENT = """
apiVersion: headrace/v1
kind: Pipeline
metadata: {{name: large}}
stream:
  topic: large
  schema:
    - {{name: id, type: string, role: id}}
    - {{name: x, type: float32, role: feature}}
    - {{name: y, type: {label}, role: label}}
train: {{task: {task}, network: {{kind: mlp}}{more}}}
"""


def pipeline_of(label="float64", task="regression", more=""):
    return load_pipeline(DOCUMENT.format(label=label, task=task, more=more))


def spec_of(pipeline):
    return PipelineSpec(pipeline.canonical_json(), pipeline.digest)


@pytest.mark.parametrize("label", ["float64", "int64", "int32", "uint32"])
def test_a_new_pipeline_answers_in_the_width_of_its_label(label):
    new = settled(pipeline_of(label), None)
    assert new.prediction_type == "float64"
    assert b'"predictionType":"float64"' in new.canonical_json()


@pytest.mark.parametrize("label", ["float32", "int16", "uint16", "int8", "uint8", "bool"])
def test_a_label_that_float32_holds_leaves_the_spec_as_it_is(label):
    assert settled(pipeline_of(label), None) == pipeline_of(label)


def test_classes_have_no_type_to_settle():
    assert settled(pipeline_of("int64", "classification"), None).train.prediction_type is None


def test_a_pipeline_from_before_keeps_its_answers_and_its_digest():
    document = pipeline_of()
    assert settled(document, spec_of(document)).digest == document.digest
    assert settled(pipeline_of(more=", epochs: 3"), spec_of(document)).prediction_type == "float32"


def test_a_pipeline_from_before_opts_in_and_stays_so():
    wanted = pipeline_of(more=", predictionType: float64")
    assert settled(wanted, spec_of(pipeline_of())) == wanted
    assert settled(pipeline_of(), spec_of(wanted)).digest == wanted.digest


def test_a_document_s_own_word_counts_from_the_first_day():
    narrow = pipeline_of(more=", predictionType: float32")
    assert settled(narrow, None) == narrow
    assert settled(pipeline_of(), spec_of(narrow)).digest == narrow.digest


def test_applying_the_same_document_again_changes_nothing():
    first = settled(pipeline_of(), None)
    assert settled(pipeline_of(), spec_of(first)) == first


def test_classes_that_become_numbers_are_answered_for_the_first_time():
    before = spec_of(pipeline_of("int64", "classification"))
    assert settled(pipeline_of("int64"), before).prediction_type == "float64"
