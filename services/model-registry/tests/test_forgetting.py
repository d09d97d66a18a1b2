"""Keys that are forgotten: what is ordered, what is recorded, and which versions say that they saw one."""

from dataclasses import replace

import pytest
from headrace_data.manifest import Manifest
from headrace_data.spec import load_pipeline
from headrace_model_registry.core import facts, forgetting
from headrace_model_registry.core.facts.forgotten import (
    ErasedObject,
    Forget,
    ForgettingTopic,
    ForgottenDataset,
    ForgottenSegment,
    KeyDigest,
    SearchedObjects,
)
from headrace_model_registry.core.records import ForgottenKey
from headrace_model_registry.transport.converters import from_log_entry, to_log_entry
from headrace_runtime.errors import InvalidInput

from .conftest import START, digest
from .test_collection import Mill

KEY = KeyDigest("0123456789abcdef", "0123456789abcdef" * 2)


def forgotten(pipeline, *dataset_ids, request_id="asked"):
    return facts.KeyForgotten(
        pipeline=pipeline,
        request_id=request_id,
        key=KEY,
        segments=(ForgottenSegment(digest("segment"), 3),),
        datasets=tuple(ForgottenDataset(each, 2, 1, 0) for each in dataset_ids),
        erased=(ErasedObject("part", digest("part"), digest("other")),),
        searched=(SearchedObjects("documents", 7, 700),),
        topics=(ForgettingTopic("digits", "records", START), ForgettingTopic("old", "records", None, "for ever")),
        left=("a remark",),
    )


def test_versions_that_saw_a_key_say_so_and_so_do_those_that_began_from_them(story, ledger, world):
    first = story.train(1)
    ledger.learn(world.failed(ledger.decide(world.trained(first))))
    second = story.train(2)
    ledger.learn(world.trained(second))
    (parent, _) = ledger.catalogue.versions.values()
    run = ledger.catalogue.runs[second.run_id]
    begun = facts.VersionReference(parent.trained.version_id, first.dataset, parent.trained.graph)
    ledger.catalogue.runs[second.run_id] = replace(run, request=replace(second, origin=begun))

    fact = forgotten("digits", first.dataset.dataset_id)
    assert ledger.learn(fact) == []
    found = list(ledger.catalogue.versions.values())
    assert [version.forgotten_keys for version in found] == [1, 1]
    ids = tuple(version.trained.version_id for version in found)
    assert ledger.catalogue.forgotten == [ForgottenKey(fact, ledger.log[-1].occur_time, ids)]
    assert ledger.learn(fact).repeated
    assert ledger.learn(forgotten("digits", second.dataset.dataset_id, request_id="other")) == []
    assert [version.forgotten_keys for version in ledger.catalogue.versions.values()] == [1, 2]
    assert from_log_entry(to_log_entry(ledger.log[-1])) == ledger.log[-1]
    assert "was never applied" in ledger.learn(forgotten("strangers", request_id="third")).reason


def test_what_is_ordered_names_every_spec_that_the_pipeline_had(story, ledger, world):
    other = story.changed(hidden=64)
    ledger.learn(world.applied(name="others"))
    applied = ledger.catalogue.pipelines["digits"]
    order = forgetting.order(applied, KEY, ledger.catalogue, retrain=True)

    assert order == Forget(KEY, (other.applied.spec, story.applied.spec), retrain=True)
    asked = facts.DatasetRequested("digits", "asked", forget=order)
    assert ledger.learn(asked) == []
    assert from_log_entry(to_log_entry(ledger.log[-1])) == ledger.log[-1]
    for wrong in (None, replace(KEY, secret="../x"), replace(KEY, digest="ada")):
        with pytest.raises(InvalidInput, match="expected the digest of a key"):
            forgetting.order(applied, wrong, ledger.catalogue, retrain=False)
    document = world.document(name="keyless").replace(
        b"name: id, type: string, role: id", b"name: id, type: string, role: group"
    )
    pipeline = load_pipeline(document)
    keyless = replace(applied, spec=facts.PipelineSpec(pipeline.canonical_json(), pipeline.digest))
    with pytest.raises(InvalidInput, match="expected records with a key"):
        forgetting.order(keyless, KEY, ledger.catalogue, retrain=False)


def test_what_stands_in_the_place_of_a_dataset_is_kept_with_what_it_names(ledger, world, tmp_path):
    mill = Mill(ledger, world, tmp_path / "store")
    mill.release(1)
    (dataset,) = mill.ledger.catalogue.datasets.values()
    manifest = Manifest.from_json(mill.store.get(dataset.frozen.manifest))
    part = mill.put(b"PAR1 without some rows")
    told = {"uri": part.uri, "digest": part.digest, "size_bytes": part.size_bytes}
    parts = (manifest.slices[0].parts[0].model_copy(update=told),)
    slices = (manifest.slices[0].model_copy(update={"parts": parts}),)
    successor = mill.put(manifest.model_copy(update={"slices": slices}).to_json())
    mill.store.supersede(dataset.frozen.manifest.digest, successor)
    plain = dataset.frozen.manifest.digest.removeprefix("sha256:")
    mill.store.remove(f"sha256/{plain[:2]}/{plain}", 2**53)
    mill.collect()

    assert Manifest.from_json(mill.store.get(dataset.frozen.manifest)).slices == slices
    assert mill.store.get(part) == b"PAR1 without some rows"
