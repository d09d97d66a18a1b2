"""The operator's key."""

from pathlib import Path

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.ec import SECP256R1, generate_private_key
from headrace_model_registry.adapters.signing import Signer
from headrace_runtime.errors import SettingsInvalid


def test_a_key_that_is_none_stops_the_start(tmp_path):
    other = tmp_path / "other.pem"
    form = (serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    other.write_bytes(generate_private_key(SECP256R1()).private_bytes(*form))
    for file, got in ((tmp_path / "none", "No such file"), (Path(__file__), "got"), (other, "another kind of key")):
        with pytest.raises(SettingsInvalid, match=f"HEADRACE_SIGNING_KEY_FILE: expected .*{got}"):
            Signer(file)
