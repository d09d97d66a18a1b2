"""Pictures and sounds: what they become, and what hostile ones may do."""

from __future__ import annotations

import os
import random
import signal
import struct
import zlib
from pathlib import Path

import pytest
from headrace_data.errors import FilesTooSlow
from headrace_data.files import Rows
from headrace_data.formats import FORMATS, Decoder, Names
from headrace_data.formats.files import MOST_STOPPED, Reader, require_library
from headrace_data.records import RecordChecker
from headrace_data.rejections import Rejection
from headrace_data.spec import SpecInvalid, load_pipeline

from .format_samples import png, wav

DOCUMENT = """
apiVersion: headrace/v1
kind: Pipeline
metadata: {{name: files}}
stream:
  topic: files
  format: {format}
  select: "$key AS id, {taken} AS input, CAST($headers['label'] AS BIGINT) AS label"
  schema:
    - {{name: id, type: string, role: id}}
    - {{name: input, type: {type}, shape: {shape}, role: feature}}
    - {{name: label, type: int64, role: label}}
prepare: {{}}
train:
  network: {{kind: mlp, hidden: [4]}}
"""
HOSTILE = str(Path(__file__).with_name("hostile_child.py"))


class Sent:
    """A message of Kafka."""

    key: bytes | None = b"a"
    timestamp_ms = 0

    def __init__(self, label: str) -> None:
        self.headers = [("label", label.encode())]


def document(format: str, shape: str, type: str = "float32", taken: str = "") -> str:  # noqa: A002
    taken = taken or ("samples" if "sound" in format else "pixels")
    return DOCUMENT.format(format=format, shape=shape, type=type, taken=taken)


def image(*shape: int, size: str = "exact") -> Decoder:
    return FORMATS["image"]({"size": size}, Names([], [], {"pixels": shape}), None)


def sound(*shape: int, rate: int = 8, length: str = "exact") -> Decoder:
    return FORMATS["sound"]({"rate": rate, "length": length}, Names([], [], {"samples": shape}), None)


def read(reader: Decoder, *files: bytes) -> tuple[list[dict[str, object]], list[str]]:
    rejected: list[Rejection] = []
    return reader.decode(files, 0, rejected)[0], [each.reason for each in rejected]


def test_a_picture_is_the_shape_of_its_field() -> None:
    red_green = png(1, 2, bytes([255, 0, 1, 0, 255, 2]), channels=3)
    gray, planes, places = image(2, 1), image(3, 2, 1), image(2, 1, 3)
    assert read(gray, red_green)[0][0]["pixels"] == [76, 150]
    assert read(planes, red_green)[0][0]["pixels"] == [255, 0, 0, 255, 1, 2]
    assert read(places, red_green, png(1, 2, b"\7\t"))[0] == [
        {"pixels": [255, 0, 1, 0, 255, 2], "width": 1, "height": 2},
        {"pixels": [7, 7, 7, 9, 9, 9], "width": 1, "height": 2},
    ]


def test_a_picture_of_another_size_is_rejected_or_stretched() -> None:
    exact = image(2, 2)
    large = png(4, 4, bytes([8] * 8 + [16] * 8))
    told = "expected a picture 2 wide and 2 high, got one 4 wide and 4 high"
    assert read(exact, large) == ([], [told])
    rows, rejected = read(image(2, 2, size="resize"), large)
    assert (rejected, rows[0]["width"], rows[0]["height"]) == ([], 4, 4)
    assert rows[0]["pixels"] == [9, 9, 15, 15], "each is of its neighbours too"


def test_a_jpeg_is_a_picture() -> None:
    from io import BytesIO

    from PIL import Image

    data = BytesIO()
    Image.new("RGB", (8, 8), (200, 100, 50)).save(data, "JPEG", quality=100)
    rows, rejected = read(image(3, 8, 8), data.getvalue(), data.getvalue()[:-40])
    pixels = rows[0]["pixels"]
    assert isinstance(pixels, list)
    assert [abs(pixels[at] - value) < 3 for at, value in ((0, 200), (64, 100), (128, 50))] == [True] * 3
    assert ["got a broken one" in reason for reason in rejected] == [True]


def bomb(*chunks: tuple[bytes, bytes], width: int = 2, height: int = 2) -> bytes:
    head = (b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0))
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))
        for name, data in (head, *chunks, (b"IEND", b""))
    )


def test_a_bomb_rejects_itself_alone() -> None:
    squeezed = zlib.compress(bytes(2**26))
    files = [
        png(2, 2, b"\1\2\3\4"),
        bomb((b"IDAT", squeezed), width=100_000, height=100_000),
        bomb((b"zTXt", b"a\0\0" + squeezed), (b"IDAT", squeezed)),
        bomb((b"IDAT", squeezed)),  # more than it says
        bomb((b"IDAT", b""), width=4096, height=4096),  # less
        png(2, 2, b"\1\2\3\4\5\6\7\7", bits=16),
        png(2, 2, b"\5\6\7\7"),
    ]
    rows, rejected = read(image(2, 2, size="resize"), *files)
    assert [row["pixels"] for row in rows] == [[1, 2, 3, 4], [0] * 4, [5, 6, 7, 7]]
    assert "expected a picture of at most 16777216 pixels, got 100000 by 100000" in rejected
    assert "expected a picture of 8 bits a channel, got one of mode I;16" in rejected
    assert len(rejected) == 4


def test_a_sound_is_as_long_as_its_field() -> None:
    exact, fit = sound(1, 4), sound(1, 4, length="fit")
    stereo = wav([2**14, -(2**14), 2**14, 0, 0, 0], 8, channels=2)
    assert read(exact, stereo) == ([], ["expected a sound of 4 samples, got 3"])
    assert read(exact, wav([0] * 4, 16)) == ([], ["expected a sound of 8 samples a second, got 16"])
    assert read(fit, stereo, wav([2**14] * 6, 8))[0] == [
        {"samples": [0.0, 0.25, 0.0, 0.0], "rate": 8, "seconds": 0.375},
        {"samples": [0.5] * 4, "rate": 8, "seconds": 0.75},
    ]
    assert read(fit, b"OggS" + bytes(60))[1] == ["expected a sound in WAV or FLAC, got bytes that are none"]


def test_flac_is_a_sound() -> None:
    from io import BytesIO

    import soundfile

    data = BytesIO()
    with soundfile.SoundFile(data, "w", 8000, 1, "PCM_16", format="FLAC") as file:
        file.buffer_write(struct.pack("<4h", 0, 2**14, -(2**15), 2**13), "int16")
    rows, rejected = read(sound(4, rate=8000), data.getvalue(), data.getvalue()[:-3])
    assert rows[0] == {"samples": [0.0, 0.5, -1.0, 0.25], "rate": 8000, "seconds": 0.0005}
    assert len(rejected) == 1


def test_floats_that_are_none_are_rejected() -> None:
    floats = struct.pack("<4f", 0.0, float("nan"), float("inf"), 3e38)
    head = b"WAVEfmt " + struct.pack("<IHHIIHH", 16, 3, 1, 8, 32, 4, 32) + b"data" + struct.pack("<I", len(floats))
    stream = load_pipeline(document("{kind: sound, rate: 8}", "[4]")).stream
    file = b"RIFF" + struct.pack("<I", len(head) + len(floats)) + head + floats
    checked = RecordChecker(stream).check([file], [0], [0], messages=[Sent("1")])
    assert [(each.rule, each.field) for each in checked.rejected] == [("overflow", "input")]


def test_the_label_comes_from_a_header() -> None:
    stream = load_pipeline(document("image", "[2, 2]")).stream
    files = [png(2, 2, bytes([at] * 4)) for at in range(3)]
    messages = [Sent("7"), Sent("x"), Sent("9")]
    checked = RecordChecker(stream).check([*files], [0] * 3, range(3), messages=messages)
    assert checked.batch.select(["id", "input", "label"]).to_pylist() == [
        {"id": "a", "input": [0.0] * 4, "label": 7},
        {"id": "a", "input": [2.0] * 4, "label": 9},
    ]
    assert [(each.position, each.rule, each.field) for each in checked.rejected] == [(1, "select", "label")]


@pytest.mark.parametrize(
    ("told", "problem"),
    [
        (document("image", "[2, 2, 2]"), r"stream.format: image: expected a field that is pixels, of shape"),
        (document("image", "[2, 2]", taken="samples"), r"\(red, green, blue\), got none"),
        (document("image", "[2, 2]", "int8"), "as the type of input, got int8"),
        (document("{kind: sound, rate: 8}", "[2, 2]"), "sound: expected a field that is samples, of shape"),
        (document("{kind: sound, rate: 8}", "[2]", "int16"), "expected float32, float64 as the type of input"),
        (document("sound", "[2]"), "stream.format: expected json"),
        (document("{kind: sound}", "[2]"), "stream.format.rate"),
        (document("{kind: image, size: cut}", "[2, 2]"), "stream.format.size"),
    ],
)
def test_what_a_document_may_not_say(told: str, problem: str) -> None:
    with pytest.raises(SpecInvalid, match=problem):
        load_pipeline(told)


def test_a_file_harms_no_other() -> None:
    reader = Reader("hostile", {}, HOSTILE, limit_s=0.1)
    files = [b"ok 1", b"SIGSEGV", b"ok 2", b"hang", b"eat", b"ok 3", b"exit", b"SIGKILL", b"write /tmp/x", b"ok 4"]
    found = reader.read(files)
    rows = {at: each for at, each in enumerate(found) if not isinstance(each, str)}
    assert rows == {
        0: ({"told": "ok"}, b"1"),
        2: ({"told": "ok"}, b"2"),
        5: ({"told": "ok"}, b"3"),
        9: ({"told": "ok"}, b"4"),
    }
    reasons = [each for each in found if isinstance(each, str)]
    for reason, told in zip(
        reasons,
        ["SIGSEGV", "within 0.1 s of the processor", "512 MB", "exit code 3", "SIGKILL", "SIGXFSZ|OSError"],
        strict=True,
    ):
        assert reason.startswith("expected ")
        assert any(part in reason for part in told.split("|")), reason


def test_a_file_is_tried_again_when_others_may_have_ended_its_process(tmp_path: Path) -> None:
    reader = Reader("hostile", {}, HOSTILE)
    there = tmp_path / "there"
    assert isinstance(reader.read([b"once " + bytes(there)])[0], str)
    reader = Reader("hostile", {}, HOSTILE)
    assert reader.read([b"ok 1"]) == [({"told": "ok"}, b"1")]
    child = reader._child
    assert child is not None
    os.kill(child._process.pid, signal.SIGKILL)
    assert reader.read([b"ok 2", b"ok 3"]) == [({"told": "ok"}, b"2"), ({"told": "ok"}, b"3")]
    with pytest.raises(ChildProcessError, match="ended by signal 15"):
        reader.read([b"SIGTERM"])


@pytest.mark.parametrize("lie", [b"\xff" * 16, struct.pack(">II", 2, 0) + b"no", struct.pack(">II", 1, 0) + b"7"])
def test_what_a_reader_that_was_taken_over_tells_is_no_answer(lie: bytes) -> None:
    found = Reader("hostile", {}, HOSTILE).read([b"lie " + lie, b"ok 1"])
    assert isinstance(found[0], str)
    assert found[1] == ({"told": "ok"}, b"1")


def test_a_batch_of_files_that_hang_is_given_up() -> None:
    reader = Reader("hostile", {}, HOSTILE, limit_s=0.05)
    with pytest.raises(FilesTooSlow, match=f"{MOST_STOPPED} times after 0.05 s each"):
        reader.read([b"hang"] * (MOST_STOPPED + 1))


def test_a_process_that_does_not_start_is_no_fault_of_a_file() -> None:
    with pytest.raises(ChildProcessError, match="exit code 1 in the process"):
        Reader("none", {}, HOSTILE).read([b"ok"])


def test_large_files_go_and_come() -> None:
    reader, data = Reader("hostile", {}, HOSTILE), random.Random(1).randbytes(3_000_000)
    assert reader.read([b"ok " + data] * 4) == [({"told": "ok"}, data)] * 4


def test_a_library_that_is_not_there_is_named() -> None:
    with pytest.raises(ImportError, match=r"expected Nothing to read none: install headrace-data\[media\]"):
        require_library("headrace_nothing", "Nothing", "none")


def test_few_bytes_that_are_many_pixels_are_taken_few_at_a_time() -> None:
    small, large = (load_pipeline(document("image", shape, "uint8")).stream for shape in ("[28, 28]", "[1024, 1024]"))
    assert [RecordChecker(stream).most_rows for stream in (small, large)] == [2**24 // 786, 15]
    plain = png(1024, 1024, bytes(2**20))
    assert len(plain) < 2_000
    checked = RecordChecker(large).check([plain], [0], [0], messages=[Sent("1")])
    assert (checked.batch.column("label").to_pylist(), checked.rejected) == ([1], [])


def test_rows_are_cut_in_order() -> None:
    messages = [Sent(str(at)) for at in range(5)]
    rows = Rows(range(7, 12), [b"a", b"b", None, b"d", b"e"], None, {2: "none", 4: "wrong"}, messages)
    assert [(list(some.numbers), list(some.values), some.faults, some.messages) for some in rows.cut(2)] == [
        ([7, 8], [b"a", b"b"], {}, messages[:2]),
        ([9, 10], [None, b"d"], {0: "none"}, messages[2:4]),
        ([11], [b"e"], {0: "wrong"}, messages[4:]),
    ]
    assert list(rows.cut(5)) == [rows]
