"""tokenize: a value encrypted with a key, the same for the same value; whoever has the key gets the value back."""

from __future__ import annotations

import base64
from collections.abc import Mapping
from functools import cached_property
from typing import TYPE_CHECKING

import pyarrow as pa

from headrace_data.errors import KeyMissing
from headrace_data.private.keys import Secret
from headrace_data.private.treatment import NOTHING_FOUND, each_once

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.ciphers.aead import AESSIV


class Tokenize:
    """Encrypts texts by AES-SIV with 256 bits (RFC 5297), as URL-safe Base64 without padding.

    It needs no number that is used once, and a token that somebody changed is found out. A token tells the length of
    its value, and that two values are the same: that is what makes it a key. Needs the extra `headrace-data[private]`.
    """

    def __init__(self, secret: Secret) -> None:
        self._secret = secret

    def treated(self, texts: pa.Array) -> tuple[pa.Array, Mapping[str, int]]:
        """Return the token of each text."""
        return each_once(texts, self.of), NOTHING_FOUND

    def of(self, text: str) -> str:
        """Return the token of one text, which is not empty."""
        return base64.urlsafe_b64encode(self._cipher.encrypt(text.encode(), None)).rstrip(b"=").decode()

    def revealed(self, token: str) -> str:
        """Return the text of a token. Raises ValueError for one that was not made with this key."""
        from cryptography.exceptions import InvalidTag

        try:
            data = base64.urlsafe_b64decode(token + "=" * (-len(token) % 4))
            return self._cipher.decrypt(data, None).decode()
        except (ValueError, InvalidTag) as error:
            raise ValueError("expected a token that was made with this key, got another text") from error

    @cached_property
    def _cipher(self) -> AESSIV:
        try:
            from cryptography.hazmat.primitives.ciphers.aead import AESSIV
        except ImportError as error:
            raise KeyMissing("tokenize needs the extra headrace-data[private]") from error
        return AESSIV(self._secret.derived(b"headrace token"))
