"""The operator's key: signs heads of the log and proofs with Ed25519 (RFC 8032)."""

import base64
import hashlib
from pathlib import Path
from typing import TYPE_CHECKING

from headrace_runtime.errors import SettingsInvalid

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

_SETTING = "HEADRACE_SIGNING_KEY_FILE"


class Signer:
    """Signs with the key of a file; without a file, signatures are empty.

    Raises SettingsInvalid when the file holds no Ed25519 private key in PEM, or one with a password.
    """

    def __init__(self, file: Path | None) -> None:
        self.key = ""
        """SHA-256 of the raw public key, 64 hexadecimal digits; empty without a key."""
        self._private = None if file is None else _loaded(file)
        if self._private is not None:
            self.key = hashlib.sha256(self._private.public_key().public_bytes_raw()).hexdigest()

    def sign(self, data: bytes) -> str:
        """Return the signature in base64; empty without a key."""
        return "" if self._private is None else base64.b64encode(self._private.sign(data)).decode()


def _loaded(file: Path) -> "Ed25519PrivateKey":
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
    from cryptography.hazmat.primitives.serialization import load_pem_private_key

    expected = "expected a file with an Ed25519 private key (PEM, PKCS #8, without a password)"
    try:
        key = load_pem_private_key(file.read_bytes(), None)
    except (OSError, ValueError, TypeError) as error:
        raise SettingsInvalid([f"{_SETTING}: {expected}, got {file}: {error}"]) from error
    if not isinstance(key, Ed25519PrivateKey):
        raise SettingsInvalid([f"{_SETTING}: {expected}, got another kind of key in {file}"])
    return key
