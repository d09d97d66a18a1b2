"""Folders of others in the object store, which a spec names by the digest of their list."""

from collections.abc import Mapping
from dataclasses import dataclass

from headrace_data.errors import ManifestInvalid
from headrace_data.folder import FileRef, Folder
from headrace_data.spec import Kept

from headrace_learning.errors import NotLearnable
from headrace_learning.training.ports import Artifacts

CONFIG, WEIGHTS, TOKENIZER = "config.json", "model.safetensors", "tokenizer.json"
"""The files of a model of language as Hugging Face has it."""


@dataclass(frozen=True)
class StoredFolder:
    """A folder whose files are read when they are asked for."""

    files: Mapping[str, FileRef]
    artifacts: Artifacts

    @staticmethod
    def of(section: Kept, artifacts: Artifacts) -> "StoredFolder":
        """Return the folder that a spec names. Raise `NotLearnable` for what is no list of files."""
        try:
            return StoredFolder(Folder.from_json(artifacts.read(section.digest, section.size_bytes)).files, artifacts)
        except ManifestInvalid as error:
            raise NotLearnable(f"train.network.digest: {error}") from error

    def read(self, path: str) -> bytes:
        """Return a file. Raise `NotLearnable` where there is none."""
        if (file := self.files.get(path)) is None:
            found = ", ".join(sorted(self.files)) or "none"
            raise NotLearnable(f"train.network.digest: expected a folder with {path}, got one with {found}")
        return self.artifacts.read(file.digest, file.size_bytes)
