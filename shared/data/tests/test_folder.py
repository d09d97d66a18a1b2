"""Lists of files: read as they were written, and never leading out of their folder."""

import json

import pytest
from headrace_data.errors import ManifestInvalid
from headrace_data.folder import FORMAT, FileRef, Folder

ONE = FileRef("sha256:" + "ab" * 32, 7)


def test_a_folder_is_read_as_it_was_written_whatever_the_order_of_its_files() -> None:
    folder = Folder({"sub/b.json": ONE, "a.safetensors": FileRef("sha256:" + "0" * 64, 0)})
    assert Folder.from_json(folder.to_json()) == folder
    turned = Folder(dict(reversed(list(folder.files.items()))))
    assert turned.to_json() == folder.to_json()


@pytest.mark.parametrize("path", ["", "/etc/passwd", "../a", "a/../b", "a//b", "a/", "./a", "a\\b", "a\0b"])
def test_a_path_that_leads_elsewhere_is_refused(path: str) -> None:
    with pytest.raises(ManifestInvalid, match="expected a path within it"):
        Folder.from_json(Folder({path: ONE}).to_json())


@pytest.mark.parametrize(
    "document",
    [
        b"{",
        b"\xff",
        b"[]",
        b"{}",
        json.dumps({"format": FORMAT, "files": []}).encode(),
        json.dumps({"format": "headrace-folder/9", "files": {}}).encode(),
        json.dumps({"format": FORMAT, "files": {"a": 1}}).encode(),
        json.dumps({"format": FORMAT, "files": {"a": {"digest": "sha256:12", "size_bytes": 1}}}).encode(),
        json.dumps({"format": FORMAT, "files": {"a": {"digest": ONE.digest, "size_bytes": -1}}}).encode(),
    ],
)
def test_what_is_no_list_of_files_is_told(document: bytes) -> None:
    with pytest.raises(ManifestInvalid, match="folder: expected"):
        Folder.from_json(document)
