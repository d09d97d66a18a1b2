"""Pictures on a topic, with their labels in headers, to predictions; hostile ones among them harm themselves alone."""

from __future__ import annotations

import json
import random
import sys
from pathlib import Path

import pytest
from headrace_local.launcher import Platform
from kafka import KafkaProducer

sys.path.insert(0, str(Path(__file__).parent))
sys.path.insert(0, str(Path(__file__).parents[2] / "shared" / "data" / "tests"))

from check_registry import headrace, read, until
from format_samples import png  # type: ignore[import-not-found]
from headrace_runtime.object_store import ObjectStore, digest_of
from headrace_runtime.record_topics import dead_topic

pytestmark = pytest.mark.timeout(900)

SENT = 200
SIDE = 8
DOCUMENT = """\
apiVersion: headrace/v1
kind: Pipeline
metadata: {name: bars}
stream:
  topic: bars
  format: image
  references: [bars]
  select: |
    $key AS id,
    pixels AS picture,
    $headers['bar'] AS bar
  schema:
    - {name: id, type: string, role: id}
    - {name: picture, type: float32, shape: [8, 8], role: feature}
    - {name: bar, type: string, role: label}
prepare:
  transform: {picture: {scale: standard}}
  freeze: {afterRecords: 200}
train:
  network: {kind: cnn, channels: [4]}
  optimizer: {kind: adam, learningRate: 0.02}
  epochs: 20
compress: {variants: [{kind: int8-dynamic}], gates: {baseline: ignored}}
"""


def bar(chance: random.Random, way: str) -> bytes:
    """Return a PNG of a bright bar on noise."""
    at, pixels = chance.randrange(SIDE), bytearray(chance.randrange(80) for _ in range(SIDE * SIDE))
    for step in range(SIDE):
        pixels[at * SIDE + step if way == "level" else step * SIDE + at] = chance.randrange(180, 256)
    return bytes(png(SIDE, SIDE, bytes(pixels)))


HOSTILE = {
    "none": b"no picture",
    "large": png(SIDE * 2, SIDE, bytes(SIDE * SIDE * 2)),
    "bomb": png(60_000, 60_000, b""),
    "broken": bar(random.Random(1), "level")[:-30],
}


def stored(platform: Platform, name: str, data: bytes) -> list[tuple[str, bytes]]:
    """Write bytes to the object store, and return headers that refer to them."""
    ObjectStore(str(platform.home / "objects")).write(f"payloads/{name}", data)
    return [("headrace-ref", name.encode()), ("headrace-ref-digest", digest_of(data).encode())]


def send(platform: Platform, chance: random.Random) -> None:
    """Send hostile pictures and sound ones, of which every fiftieth lies in the object store."""
    producer = KafkaProducer(bootstrap_servers=platform.bootstrap_servers, acks="all")
    for name, data in HOSTILE.items():
        producer.send("bars", data, key=name.encode(), headers=[("bar", b"level")])
    gone = [("bar", b"level"), ("headrace-ref", b"bars/none"), ("headrace-ref-digest", digest_of(b"").encode())]
    producer.send("bars", None, key=b"gone", headers=gone)
    for at in range(SENT):
        way = "level" if at % 2 else "upright"
        key, headers, data = str(at).encode(), [("bar", way.encode())], bar(chance, way)
        if at % 50:
            producer.send("bars", data, key=key, headers=headers)
        else:
            producer.send("bars", None, key=key, headers=[*headers, *stored(platform, f"bars/{at}.png", data)])
    producer.close()


def test_from_pictures_to_predictions(tmp_path: Path) -> None:
    file, chance = tmp_path / "bars.yaml", random.Random(20261130)
    file.write_text(DOCUMENT)
    with Platform.on_free_ports(tmp_path / "platform") as platform:
        headrace(platform, "topic", "create", "bars")
        headrace(platform, "apply", str(file))
        send(platform, chance)
        waited = json.loads(headrace(platform, "wait", "bars", "--timeout", "300s", "--json"))
        assert sum(waited["dataset"]["rows"].values()) == SENT, waited

        until(lambda: len(read(platform, dead_topic("bars"))) == len(HOSTILE) + 1)
        dead = {record.key.decode(): record for record in read(platform, dead_topic("bars")) if record.key}
        gone = dead.pop("gone")
        assert {name: record.value for name, record in dead.items()} == HOSTILE, "as they were sent"
        reasons = {name: dict(record.headers)["dead-reason"].decode() for name, record in dead.items()}
        assert dict(gone.headers)["dead-rule"] == b"reference"
        assert "got bytes that are none" in reasons["none"]
        assert "got one 16 wide and 8 high" in reasons["large"]
        assert "60000 by 60000" in reasons["bomb"]
        assert "got a broken one" in reasons["broken"]

        seen = tmp_path / "seen.png"
        answers = []
        for way in ("level", "upright") * 5:
            seen.write_bytes(bar(chance, way))
            answers += [(way, json.loads(headrace(platform, "predict", "bars", str(seen), "--json"))[0]["label"])]
        assert sum(way == label for way, label in answers) >= 8, answers


def test_a_folder_of_pictures_in_three_commands(tmp_path: Path) -> None:
    folder, chance, document = tmp_path / "bars", random.Random(20261130), tmp_path / "bars.yaml"
    for at in range(SENT):
        way = "level" if at % 2 else "upright"
        (folder / way).mkdir(parents=True, exist_ok=True)
        (folder / way / f"{at}.png").write_bytes(bar(chance, way))
    (folder / "level" / "broken.png").write_bytes(HOSTILE["broken"])
    with Platform.on_free_ports(tmp_path / "platform") as platform:
        headrace(platform, "init", "--from", str(folder), "--output", str(document))
        headrace(platform, "apply", str(document), "--create-topic")
        pushed = json.loads(headrace(platform, "push", "bars", str(folder), "--json"))["files"][0]
        assert (pushed["rows"], pushed["accepted"], pushed["rejected"]) == (SENT + 1, SENT, {"image": 1})
        assert pushed["examples"]["image"][0].startswith("level/broken.png: ")
        assert json.loads(headrace(platform, "push", "bars", str(folder), "--json"))["files"][0]["again"] == SENT + 1
        waited = json.loads(headrace(platform, "wait", "bars", "--timeout", "300s", "--json"))
        assert sum(waited["dataset"]["rows"].values()) == SENT, waited
        assert waited["version"]["metrics"]["accuracy"] > 0.8, waited
        asked = tmp_path / "new.png"
        asked.write_bytes(bar(chance, "upright"))
        (said,) = json.loads(headrace(platform, "predict", "bars", str(asked), "--on-server", "--json"))
        assert said["label"] == "upright"
