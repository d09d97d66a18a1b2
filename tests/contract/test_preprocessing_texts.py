"""Texts on a real broker: masked before they are stored, and what training is without, whoever is killed."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable
from typing import Any

import pyarrow as pa
import pytest
from headrace_data.dataset import DatasetReader
from headrace_data.split import SPLITS, assign_splits
from headrace_runtime.object_store import ObjectStore
from headrace_runtime.record_topics import clean_topic

from .lanes import sound

pytestmark = [pytest.mark.contract, pytest.mark.timeout(600)]

CARD = "4111 1111 1111 1111"
TEXTS = 40
"""Each comes three times: as it is, with another word, and as it is."""


def note(key: int) -> str:
    number = key % TEXTS
    words = [f"{word}{number * number + place}" for place, word in enumerate(("heron", "ferry", "harbour") * 12)]
    words[3] = "otherwise" if key // TEXTS == 1 else words[3]
    return f"write to keeper{number}@example.org about {' '.join(words)}"


def test_what_is_masked_and_left_out_is_the_same_whoever_is_killed(
    lanes: Callable[..., Any], start: Callable[..., Any], until: Callable[..., None]
) -> None:
    lane = lanes(f"{{afterRecords: {3 * TEXTS}}}\n  transform: {{depth: {{impute: mean}}}}\n  leak: stop")
    lane.grow("{name: height, type: string, role: feature}", "{encode: hash}")
    near = "{fields: [height]}"
    lane.change(personal="{fields: [height], email: mask, card: reject}", nearDuplicates=near, outliers="{}")
    lane.apply()
    child = start()
    side = [SPLITS[each] for each in assign_splits(pa.array(range(3 * TEXTS)), lane.pipeline.prepare.split)]
    copies = [[number + TEXTS * turn for turn in range(3)] for number in range(TEXTS)]
    (far, second, _), *_ = [each for each in copies if {side[key] for key in each} == {"train"}]
    depths = {far: -1e9} | dict.fromkeys((key for key in range(far) if side[key] != "train"), 1e9)
    records = [
        row | {"height": note(row["key"]), "depth": depths.get(row["key"], row["key"] % 5)}
        for row in sound(0, 3 * TEXTS)
    ]
    child.arm("manifest")
    lane.send((0, [records[0] | {"key": -1, "height": f"pay with {CARD}"}, *records[:50]]), (1, records[50:]))
    child.wait_held("manifest")
    child.kill()
    assert not lane.frozen()
    start()
    until(lane.frozen)

    (frozen,) = lane.frozen()
    kept = {row["key"]: row["height"] for row in lane.dataset_rows(frozen)}
    wanted = [_learned([key for key in each if side[key] == "train"], each) for each in copies]
    # What is left out for a value of its own is none that others repeat: the second of its copies is learned.
    wanted = [[second] if each == [far] else each for each in wanted]
    assert {key for key in kept if side[key] == "train"} == {key for each in wanted for key in each}
    assert {key for key in range(3 * TEXTS) if side[key] != "train"} < kept.keys()
    assert all(text == note(key).replace(f"keeper{key % TEXTS}@example.org", "[email]") for key, text in kept.items())
    assert dict(frozen.masked) == {"email": 3 * TEXTS}
    left = frozen.rejected["contaminated"] + frozen.rejected["nearDuplicates"]
    assert (left, frozen.rejected["personal"]) == (3 * TEXTS - len(kept) - 1, 1)
    assert frozen.rejected["outliers"] == 1
    # Nothing leaks any more, and of the classes none is rarer than the one that is told of.
    assert (frozen.HasField("leaks"), frozen.leaks.exact) == (True, 0)
    counts = Counter((side[row["key"]], str(row["digit"])) for row in lane.dataset_rows(frozen))
    rarest = frozen.rarest
    assert min(counts.values()) == counts[rarest.split, rarest.label] == rarest.rows
    (letter,) = lane.dead()
    assert (letter.header("dead-rule"), letter.header("dead-field")) == ("personal", "height")
    assert json.loads(letter.value or b"").keys() == {"key", "value", "depth", "digit"}
    for record in (letter, *lane.read(clean_topic(lane.name))):
        assert not any(private in (record.value or b"") for private in (CARD.encode(), b"@example.org"))
    # The parts hold what training leaves out, so that another split, or another rule, needs no new ones.
    manifest = lane.manifest(frozen)
    assert sum(part.rows for part in manifest.parts) == 3 * TEXTS
    columns = DatasetReader(manifest, ObjectStore(lane.settings.store_url)).columns("train")
    assert len(columns["height"]) == frozen.rows.train


def _learned(train: list[int], copies: list[int]) -> list[int]:
    """Return what training learns of three near copies: none beside one that is held out, else the first."""
    return train[:1] if len(train) == len(copies) else []
