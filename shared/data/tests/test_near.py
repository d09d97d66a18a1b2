"""Near duplicates: which rows training leaves out, and what a dataset tells of them."""

from __future__ import annotations

import json
import random
from collections import Counter
from collections.abc import Sequence

import numpy as np
import pyarrow as pa
import pytest
from headrace_data import near
from headrace_data.dataset import DatasetReader
from headrace_data.errors import DatasetInvalid, DatasetUnusable
from headrace_data.history import History, keep
from headrace_data.manifest import Manifest
from headrace_data.near import CONTAMINATED, NEAR_DUPLICATES, NearRows, signatures
from headrace_data.recall import Recall
from headrace_data.records import RecordChecker
from headrace_data.slices import left_out
from headrace_data.spec import NearDuplicates, Pipeline, SpecInvalid, load_pipeline
from headrace_data.split import SPLITS, assign_splits
from headrace_data.windows import Windows

from .conftest import MemoryStore
from .many_days import segment_of

DOCUMENT = """
apiVersion: headrace/v1
kind: Pipeline
metadata: {{name: asked}}
stream:
  topic: asked
  schema:
    - {{name: id, type: int64, role: id}}
    - {{name: question, type: string, role: feature}}
    - {{name: answer, type: string, role: label}}
prepare:
  clean: {{{clean}}}
  transform: {{question: {{encode: text}}}}
  split: {{train: 0.6, validation: 0.2, test: 0.2}}
  window: {window}
train: {{task: generation, network: {{kind: causal-lm, digest: "sha256:{digest}", sizeBytes: 7}}}}
"""
BOTH = "nearDuplicates: {fields: [question, answer]}"
DICE = random.Random(3)
WORDS = ["".join(DICE.choice("aeioubcdfglmnprstvz") for _ in range(DICE.randint(2, 8))) for _ in range(800)]


def pipeline_of(clean: str = BOTH, window: str = "all") -> Pipeline:
    return load_pipeline(DOCUMENT.format(clean=clean, window=window, digest="ab" * 32))


def sentence(seed: int, words: int = 40) -> str:
    return " ".join(random.Random(seed).choices(WORDS, k=words))


def paraphrased(text: str, seed: int) -> str:
    """Another word in the place of one of forty, and other white space and case."""
    dice, words = random.Random(seed), text.split(" ")
    words[dice.randrange(len(words))] = dice.choice(WORDS)
    return "  ".join(words).title()


def pieces(text: str) -> set[str]:
    return {f"{text}\0\0\0\0"[place : place + 5] for place in range(len(text))}


def similarity(one: set[str], other: set[str]) -> float:
    return len(one & other) / len(one | other)


def rows(pipeline: Pipeline, texts: Sequence[str], first: int = 0, partitions: int = 2) -> pa.RecordBatch:
    values = [
        json.dumps({"id": first + place, "question": f"Q {first + place}", "answer": text}).encode()
        for place, text in enumerate(texts)
    ]
    places, offsets = [place % partitions for place in range(len(texts))], range(first, first + len(texts))
    checked = RecordChecker(pipeline.stream).check(values, places, offsets)
    assert checked.rejected == []
    return checked.batch


def dataset(pipeline: Pipeline, store: MemoryStore, *batches: pa.RecordBatch, recall: Recall | None = None) -> Manifest:
    history = History(pipeline=pipeline.name)
    for batch in batches:
        history = history.and_cut(keep(segment_of(pipeline, store, batch), pipeline, store))
    return Windows(pipeline, store, recall=recall or Recall()).dataset(history)[0]


def answers(manifest: Manifest, store: MemoryStore, split: str = "train") -> list[str]:
    texts: list[str] = DatasetReader(manifest, store).columns(split)["answer"].tolist()  # type: ignore[arg-type]
    return texts


def sides(count: int) -> list[str]:
    return [SPLITS[side] for side in assign_splits(pa.array(range(count)), pipeline_of().prepare.split)]


@pytest.mark.parametrize("length", [3, 12, 60, 500])
def test_equal_numbers_estimate_how_much_texts_have_in_common(length: int) -> None:
    pairs = []
    for seed in range(60):
        text = sentence(seed, length)[:length].strip() or "a"
        changed = [DICE.choice("xyz ") if DICE.random() < seed / 300 else letter for letter in text]
        pairs.append((text, "".join(changed)))
    numbers = [signatures(pa.array([pair[place] for pair in pairs])) for place in (0, 1)]
    estimates = (numbers[0] == numbers[1]).mean(axis=1)
    errors = estimates - [similarity(*map(pieces, pair)) for pair in pairs]

    assert abs(errors.mean()) < 0.02
    assert errors.std() < 0.06


def test_numbers_depend_on_the_text_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    texts = ["a", "ab", sentence(1), "\0", "żółć " * 50, sentence(2, 3000), "😀" * 9]
    whole = signatures(pa.array(texts))
    monkeypatch.setattr(near, "_LETTERS_AT_ONCE", 7)
    assert (signatures(pa.array(["x", *texts])[1:]) == whole).all()
    assert (np.concatenate([signatures(pa.array([text])) for text in texts]) == whole).all()
    # What they are is the same everywhere: datasets of the same rows leave out the same ones.
    assert whole[4, :4].tolist() == [1880540850, 271965252, 1146560390, 1117240687]


def test_training_leaves_out_what_nearly_repeats_other_rows() -> None:
    store, pipeline, side = MemoryStore(), pipeline_of(), sides(300)
    texts = [sentence(seed) for seed in range(100)]
    texts += [paraphrased(text, seed) for seed, text in enumerate(texts)] + [sentence(seed) for seed in range(500, 600)]

    manifest = dataset(pipeline, store, rows(pipeline, texts[:150]), rows(pipeline, texts[150:], 150))

    learned, held = (
        answers(manifest, store),
        [*answers(manifest, store, "validation"), *answers(manifest, store, "test")],
    )
    taught, asked = ([pieces(" ".join(text.lower().split())) for text in texts] for texts in (learned, held))
    assert max(similarity(one, other) for one in taught for other in asked) < 0.8
    pairs = [(side[row], side[row + 100]) for row in range(100)]
    contaminated = sum((one == "train") != (other == "train") for one, other in pairs)
    repeated = pairs.count(("train", "train"))
    assert manifest.provenance.rejected == {CONTAMINATED: contaminated, NEAR_DUPLICATES: repeated}
    assert len(learned) == manifest.splits["train"].rows == side.count("train") - contaminated - repeated
    # Who is held out stays, and of two training rows the first does.
    assert len(held) == 300 - side.count("train")
    assert {texts[row] for row, pair in enumerate(pairs) if pair == ("train", "train")} <= set(learned)
    assert Manifest.from_json(manifest.to_json()) == manifest


def test_what_learns_by_heart_looks_good_unless_near_copies_are_left_out() -> None:
    texts = [sentence(seed) for seed in range(60)]
    texts += [paraphrased(text, seed) for seed, text in enumerate(texts)]
    exact = {}
    for clean in ("missing: drop", BOTH.replace("question, answer", "answer")):
        store, pipeline = MemoryStore(), pipeline_of(clean)
        reader = DatasetReader(dataset(pipeline, store, rows(pipeline, texts)), store)
        (asked, known), (learned, said) = (
            (signatures(pa.array([text.lower() for text in columns["answer"]])), columns["question"])
            for columns in (reader.columns("test"), reader.columns("train"))
        )
        # It answers as the row does that it learned and that is most like what it is asked, which is its near copy.
        nearest = [(numbers == learned).sum(axis=1).argmax() for numbers in asked]
        pairs = [(int(one[2:]) % 60, int(said[row][2:]) % 60) for one, row in zip(known, nearest, strict=True)]
        exact[clean] = np.mean([wanted == got for wanted, got in pairs])
    assert exact["missing: drop"] > 0.4
    assert exact[BOTH.replace("question, answer", "answer")] == 0


def test_held_out_alone_keeps_what_training_has_twice() -> None:
    store, pipeline, side = MemoryStore(), pipeline_of(BOTH.replace("]", "], of: heldOut")), sides(80)
    texts = [sentence(seed) for seed in range(40)] * 2

    manifest = dataset(pipeline, store, rows(pipeline, texts))

    apart = sum((side[row] == "train") != (side[row + 40] == "train") for row in range(40))
    assert manifest.provenance.rejected == {CONTAMINATED: apart}
    assert Counter(answers(manifest, store)) == Counter(
        texts[row] for row in range(80) if side[row] == "train" and side[(row + 40) % 80] == "train"
    )


def test_without_the_rules_nothing_is_left_out() -> None:
    store = MemoryStore()
    plain = pipeline_of("missing: drop")
    manifest = dataset(plain, store, rows(plain, [sentence(seed % 9) for seed in range(60)]))
    assert manifest.rows == 60
    assert b"left_out" not in manifest.to_json()
    assert "nearDuplicates" not in plain.canonical_json().decode()
    assert pipeline_of().prepare_digest != plain.prepare_digest


def test_a_segment_of_before_the_rules_is_looked_at_too() -> None:
    store, plain = MemoryStore(), pipeline_of("missing: drop")
    texts = [f"write to {name}@example.org about {sentence(seed)}" for seed, name in enumerate("abcdefgh" * 8)]
    segment = segment_of(plain, store, rows(plain, [*texts, "pay with 4111 1111 1111 1111"]))
    history = History(pipeline=plain.name).and_cut(keep(segment, plain, store))
    pipeline = pipeline_of("personal: {fields: [answer], email: mask, card: reject}, " + BOTH)

    manifest, _ = Windows(pipeline, store).dataset(history)
    reader = DatasetReader(manifest, store)

    found = [text for split in SPLITS for text in answers(manifest, store, split)]
    assert {text[:22] for text in found} == {"write to [email] about"}
    again = pa.Table.from_batches([batch for part in reader.parts("train") for batch in part()])
    twice = pa.Table.from_batches([batch for part in reader.parts("train") for batch in part()])
    assert again["answer"].to_pylist() == twice["answer"].to_pylist() == answers(manifest, store)
    assert len(found) == manifest.rows == 64 - sum(manifest.provenance.rejected.values())


def test_the_same_rows_always_leave_out_the_same_ones() -> None:
    pipeline, recall, store = pipeline_of(), Recall(), MemoryStore()
    texts = [sentence(seed % 37, 12) for seed in range(120)]
    batches = [rows(pipeline, texts[start : start + 40], start) for start in (0, 40, 80)]

    first = dataset(pipeline, store, *batches)
    dataset(pipeline, store, *batches[:2], recall=recall)
    assert dataset(pipeline, store, *batches, recall=recall) == first
    assert dataset(pipeline, MemoryStore(), *batches) == first
    part = next(part for part in first.parts if part.left_out)
    with pytest.raises(DatasetInvalid, match="expected a bit for each of"):
        left_out(part.model_copy(update={"rows": 9}))
    with pytest.raises(DatasetInvalid, match="in base64"):
        left_out(part.model_copy(update={"left_out": {"rule": "é"}}))


def test_many_rows_that_are_all_alike_take_no_longer_than_others() -> None:
    found = NearRows(NearDuplicates(fields=("t",)))
    batch = pa.record_batch({"t": pa.array(["the same text over and over"] * 3000 + [None, " "], pa.string())})
    found.add(batch, np.arange(3002) == 2000)
    assert {rule: int(where.sum()) for rule, where in found.left_out().items()} == {
        CONTAMINATED: 2999,
        NEAR_DUPLICATES: 0,
    }


def test_too_many_rows_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(near, "MOST_ROWS", 3)
    found = NearRows(NearDuplicates(fields=("t",)))
    with pytest.raises(DatasetUnusable, match="expected at most 3 rows to look for near duplicates among, got more"):
        found.add(pa.record_batch({"t": ["a"] * 4}), np.zeros(4, np.bool_))
    assert NearRows(NearDuplicates(fields=("t",))).left_out()[CONTAMINATED].tolist() == []


@pytest.mark.parametrize(
    ("clean", "told"),
    [
        ("nearDuplicates: {fields: [id]}", "prepare.clean.nearDuplicates.fields[0]: expected a text, got 'id' of type"),
        ("nearDuplicates: {fields: [answer, answer]}", "nearDuplicates.fields[1]: expected each field once"),
        ("nearDuplicates: {fields: [answer], similarity: 0.5}", "prepare.clean.nearDuplicates.similarity"),
    ],
)
def test_rules_that_cannot_hold_are_refused(clean: str, told: str) -> None:
    with pytest.raises(SpecInvalid) as refused:
        pipeline_of(clean)
    assert told in str(refused.value)
