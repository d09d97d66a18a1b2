from __future__ import annotations

import os
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path

import pytest
from headrace.events.v1 import artifact_pb2
from headrace_runtime.errors import Corrupt, InvalidInput, NotFound, Unavailable, Unprocessable
from headrace_runtime.object_store import Artifact, ObjectStore, digest_of
from hypothesis import given, settings
from hypothesis import strategies as st

EMPTY_SHA256 = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"


@pytest.fixture(params=["folder", "memory"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> ObjectStore:
    return ObjectStore(str(tmp_path / "store") if request.param == "folder" else f"memory://{tmp_path.name}")


def test_put_returns_where_the_bytes_are(store: ObjectStore) -> None:
    artifact = store.put(b"")
    assert artifact.digest == f"sha256:{EMPTY_SHA256}"
    assert artifact.size_bytes == 0
    assert artifact.uri == f"{store.url}/sha256/e3/{EMPTY_SHA256}"


def test_get_returns_what_was_put(store: ObjectStore) -> None:
    artifact = store.put(b"weights")
    message = artifact_pb2.Artifact(uri=artifact.uri, digest=artifact.digest, size_bytes=artifact.size_bytes)
    assert store.get(artifact) == store.get(message) == b"weights"


@settings(deadline=None)
@given(st.binary(max_size=4096))
def test_any_bytes_come_back(data: bytes) -> None:
    store = ObjectStore("memory://property")
    assert store.get(store.put(data)) == data


def test_put_twice_writes_once(tmp_path: Path) -> None:
    store = ObjectStore(str(tmp_path))
    path = Path(store.put(b"once").uri.removeprefix("file://"))
    before = path.stat().st_ino
    assert store.put(b"once") == store.put(b"once")
    assert path.stat().st_ino == before


def test_put_mends_bytes_that_were_cut_short(tmp_path: Path) -> None:
    store = ObjectStore(str(tmp_path))
    artifact = store.put(b"whole")
    Path(artifact.uri.removeprefix("file://")).write_bytes(b"who")
    assert store.get(store.put(b"whole")) == b"whole"


@given(st.binary(min_size=1, max_size=64), st.integers(0, 2**32))
def test_put_mends_any_flipped_bit(data: bytes, bit: int) -> None:
    store = ObjectStore("memory://flipped")
    artifact = store.put(data)
    place = bit % (8 * len(data))
    flipped = bytearray(data)
    flipped[place // 8] ^= 1 << place % 8
    store._fs.pipe_file(store._artifact_path(artifact.digest), bytes(flipped))
    with pytest.raises(Corrupt, match=artifact.digest):
        store.get(artifact)
    assert store.get(store.put(data)) == data


def test_a_relative_folder_gives_an_absolute_uri(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    artifact = ObjectStore("objects").put(b"x")
    assert artifact.uri.startswith(f"file://{tmp_path}/objects/sha256/")


def test_a_store_that_moved_still_knows_its_artifacts(tmp_path: Path) -> None:
    artifact = ObjectStore(str(tmp_path / "old")).put(b"kept")
    (tmp_path / "old").rename(tmp_path / "new")
    assert ObjectStore(str(tmp_path / "new")).get(artifact) == b"kept"


def test_get_names_what_is_missing(store: ObjectStore) -> None:
    artifact = Artifact("s3://gone", digest_of(b"absent"), 6)
    with pytest.raises(NotFound, match=artifact.digest):
        store.get(artifact)


@pytest.mark.parametrize("found", [b"wrongs", b"weight"])
def test_get_refuses_bytes_that_do_not_match(tmp_path: Path, found: bytes) -> None:
    store = ObjectStore(str(tmp_path))
    artifact = store.put(b"weights")
    Path(artifact.uri.removeprefix("file://")).write_bytes(found)
    with pytest.raises(Corrupt, match="expected 7 bytes, found 6"):
        store.get(artifact)


def test_get_refuses_other_bytes_of_the_same_size(tmp_path: Path) -> None:
    store = ObjectStore(str(tmp_path))
    artifact = store.put(b"weights")
    Path(artifact.uri.removeprefix("file://")).write_bytes(b"weighty")
    with pytest.raises(Corrupt, match=f"expected {artifact.digest}, found sha256:"):
        store.get(artifact)


@pytest.mark.parametrize("digest", ["", "sha256:../../etc/passwd", "md5:" + "0" * 64, "sha256:" + "A" * 64])
def test_a_digest_must_be_one(store: ObjectStore, digest: str) -> None:
    with pytest.raises(InvalidInput, match="64 lower-case hexadecimal digits"):
        store.get(Artifact("x", digest, 0))


def test_named_files_are_replaced_whole(store: ObjectStore) -> None:
    assert store.read("runs/r1/attempt-1/state.json") is None
    store.write("runs/r1/attempt-1/state.json", b"a long first text")
    store.write("runs/r1/attempt-1/state.json", b"short")
    assert store.read("runs/r1/attempt-1/state.json") == b"short"


def test_list_names_what_lies_below(store: ObjectStore) -> None:
    for name in ("runs/r1/attempt-2/a", "runs/r1/attempt-1/b", "runs/r10/c"):
        store.write(name, b"")
    assert store.list("runs/r1") == ["runs/r1/attempt-1/b", "runs/r1/attempt-2/a"]
    assert store.list("runs/r1/") == store.list("runs/r1")
    assert store.list("runs/none") == []


def test_list_leaves_out_what_is_being_written(tmp_path: Path) -> None:
    store = ObjectStore(str(tmp_path))
    store.write("runs/r1/a", b"")
    (tmp_path / "runs/r1/.writing-1").write_bytes(b"half")
    assert store.list("runs/r1") == ["runs/r1/a"]


def test_nothing_is_left_behind_by_a_failed_write(tmp_path: Path) -> None:
    store = ObjectStore(str(tmp_path))
    (tmp_path / "taken").mkdir()
    assert [store.beginning(name, 9) for name in ("taken", "taken/below", "x" * 300)] == [b""] * 3
    with pytest.raises(Unprocessable, match="taken: something else lies in the way"):
        store.write("taken", b"x")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["taken"]


@pytest.mark.parametrize("name", ["", "/etc/passwd", "a/../b", "a//b", "./a", "a\\b"])
def test_names_stay_inside_the_store(store: ObjectStore, name: str) -> None:
    with pytest.raises(InvalidInput, match="relative path"):
        store.write(name, b"")


def test_an_unknown_scheme_is_named() -> None:
    with pytest.raises(InvalidInput, match="'nowhere://bucket'"):
        ObjectStore("nowhere://bucket")


def test_a_clients_own_error_says_that_the_store_is_away(monkeypatch: pytest.MonkeyPatch) -> None:
    class NoConnection(Exception):
        """Like botocore's: no OSError."""

    def fail(*_: object, **__: object) -> bytes:
        raise NoConnection("nobody answers")

    store = ObjectStore("memory://away")
    artifact = store.put(b"kept")
    monkeypatch.setattr("fsspec.implementations.memory.MemoryFileSystem.cat_file", fail)
    with pytest.raises(Unavailable, match="nobody answers"):
        store.get(artifact)


def test_a_file_is_kept_and_opened_again_in_pieces(store: ObjectStore, tmp_path: Path) -> None:
    data = bytes(range(256)) * 20_000
    path, beats = tmp_path / "history.bin", []
    path.write_bytes(data)
    artifact = store.put_file(path)
    assert artifact == store.put_file(path) == store.put(data)
    with store.open(artifact, lambda: beats.append(1)) as file:
        assert (file.read(3), file.seek(256 * 3), file.read(2)) == (data[:3], 768, data[:2])
        assert file.read() == data[770:]
    assert len(beats) == -(-len(data) // 2**20)


def test_put_file_mends_what_is_there_and_leaves_nothing_else(tmp_path: Path) -> None:
    store, path = ObjectStore(str(tmp_path / "store")), tmp_path / "history.csv"
    path.write_bytes(b"a,b\n1,2\n")
    artifact = store.put_file(path)
    kept = Path(artifact.uri.removeprefix("file://"))
    kept.write_bytes(b"a,b\n1,3\n")
    with pytest.raises(Corrupt, match=f"expected {artifact.digest} of 8 bytes"), store.open(artifact):
        pass
    assert store.put_file(path) == artifact
    assert store.get(artifact) == b"a,b\n1,2\n"
    assert [each.name for each in kept.parent.iterdir()] == [kept.name]


def test_a_file_that_is_not_there_is_named(store: ObjectStore, tmp_path: Path) -> None:
    missing = Artifact("x", digest_of(b"never kept"), 10)
    with pytest.raises(NotFound, match=missing.digest), store.open(missing):
        pass
    with pytest.raises(Unavailable, match=r"gone\.csv"):
        store.put_file(tmp_path / "gone.csv")


def test_a_store_that_fails_while_a_file_is_read_is_away(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object) -> bytes:
        raise OSError("the disk is gone")

    store = ObjectStore(f"memory://{tmp_path.name}")
    artifact = store.put(b"kept")
    with store.open(artifact) as file:
        file.seek(0)
        monkeypatch.setattr("fsspec.implementations.memory.MemoryFile.read", fail)
        with pytest.raises(Unavailable, match="the disk is gone"):
            file.read()


def test_files_tell_their_size_and_when_they_were_written(store: ObjectStore) -> None:
    artifact = store.put(b"weights")
    store.write("runs/run-1/result.json", b"{}")
    (found,) = store.files("sha256")
    assert found.name == f"sha256/{artifact.digest[7:9]}/{artifact.digest[7:]}"
    assert found.size_bytes == 7
    assert abs(found.write_s - time.time()) < 60
    assert [each.name for each in store.files("runs")] == ["runs/run-1/result.json"]
    assert store.files("gc") == []


def test_what_was_written_since_is_not_removed(store: ObjectStore) -> None:
    store.write("runs/run-1/attempt-1/checkpoint-0.json", b"{}")
    assert not store.remove("runs/run-1/attempt-1/checkpoint-0.json", time.time() - 60)
    assert store.read("runs/run-1/attempt-1/checkpoint-0.json") == b"{}"
    assert store.remove("runs/run-1/attempt-1/checkpoint-0.json", time.time() + 60)
    assert store.list("runs") == []
    assert store.remove("runs/run-1/attempt-1/checkpoint-0.json", time.time() + 60), "it is gone"


def test_folders_of_runs_go_with_their_last_file(tmp_path: Path) -> None:
    store = ObjectStore(str(tmp_path))
    store.write("runs/run-1/attempt-1/checkpoint-0.json", b"{}")
    store.write("runs/run-1/result.json", b"{}")
    store.remove("runs/run-1/attempt-1/checkpoint-0.json", time.time() + 60)
    assert [path.name for path in (tmp_path / "runs/run-1").iterdir()] == ["result.json"]
    store.remove("runs/run-1/result.json", time.time() + 60)
    assert [path.name for path in tmp_path.iterdir()] == ["runs"]
    assert not list((tmp_path / "runs").iterdir())


def test_bytes_that_are_put_once_more_count_as_written_now(tmp_path: Path) -> None:
    store = ObjectStore(str(tmp_path))
    path = Path(store.put(b"old").uri.removeprefix("file://"))
    os.utime(path, (0, 0))
    assert store.put(b"old")
    assert not store.remove(str(path.relative_to(tmp_path)), time.time() - 60)


def test_remote_bytes_that_are_put_once_more_count_as_written_now(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("headrace_runtime.object_store.RENEWED_S", 0.0)
    store = ObjectStore("memory://renewed")
    store.put(b"old")
    (before,) = store.files("sha256")
    store.put(b"old")
    (after,) = store.files("sha256")
    assert after.write_s > before.write_s


def test_nothing_that_is_put_while_it_is_removed_is_lost(tmp_path: Path) -> None:
    """One process removes what is old, as fast as it can; another one puts the same bytes and finds them."""
    store, data = ObjectStore(str(tmp_path)), b"x" * 1_000
    artifact = store.put(data)
    path = Path(artifact.uri.removeprefix("file://"))
    script = (
        "import sys, time; from headrace_runtime.object_store import ObjectStore; store = ObjectStore(sys.argv[1])\n"
        "while True: store.remove(sys.argv[2], time.time() - 60)"
    )
    with subprocess.Popen([sys.executable, "-c", script, str(tmp_path), str(path.relative_to(tmp_path))]) as remover:
        try:
            os.utime(path, (0, 0))
            deadline = time.monotonic() + 30
            while path.exists():
                assert time.monotonic() < deadline, "the other process removes nothing"
            for _ in range(1_000):
                store.put(data)
                assert store.get(artifact) == data
                with suppress(FileNotFoundError):
                    os.utime(path, (0, 0))
        finally:
            remover.kill()


def test_a_file_comes_back_as_a_file(store: ObjectStore, tmp_path: Path) -> None:
    (tmp_path / "weights").write_bytes(b"weights" * 400_000)
    artifact, back = store.put_file(tmp_path / "weights"), tmp_path / "folder" / "back"
    for _ in range(2):
        store.get_file(artifact, back)
        assert back.read_bytes() == b"weights" * 400_000


@pytest.mark.parametrize("found", [b"others!", b"weight", b"weights and more"])
def test_a_file_of_other_bytes_is_not_left_behind(found: bytes, tmp_path: Path) -> None:
    store = ObjectStore(str(tmp_path / "store"))
    artifact = store.put(b"weights")
    Path(artifact.uri.removeprefix("file://")).write_bytes(found)
    with pytest.raises(Corrupt, match=f"expected {artifact.digest} of 7 bytes"):
        store.get_file(artifact, tmp_path / "folder" / "back")
    assert not list((tmp_path / "folder").iterdir())


def test_a_file_that_is_nowhere_is_named(store: ObjectStore, tmp_path: Path) -> None:
    with pytest.raises(NotFound, match="sha256:" + "0" * 64):
        store.get_file(Artifact("", "sha256:" + "0" * 64, 1), tmp_path / "back")


def test_what_was_superseded_is_answered_with_what_stands_in_its_place(tmp_path: Path) -> None:
    store = ObjectStore(str(tmp_path / "superseding"))
    old, middle, new = (store.put(data) for data in (b"with", b"with less", b"without"))
    store.supersede(old.digest, middle)
    assert store.get(old) == b"with", "as long as it is there"
    store.remove(f"sha256/{old.digest[7:9]}/{old.digest[7:]}", 2**53)
    assert store.get(old) == b"with less"
    store.supersede(middle.digest, new)
    store.remove(f"sha256/{middle.digest[7:9]}/{middle.digest[7:]}", 2**53)
    assert store.get(old) == store.get(middle) == b"without"
    assert store.superseded() == {old.digest: middle, middle.digest: new}
    assert store.successor(new.digest) is None
    store.write(f"superseded/{old.digest[7:]}", b'{"digest": 1}')
    with pytest.raises(Corrupt, match="expected the place of an artifact"):
        store.get(old)
