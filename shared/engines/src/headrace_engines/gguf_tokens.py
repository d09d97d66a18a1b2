"""Texts as tokens and back, as a GGUF file has them: the one tokenizer that a model learns and answers with.

It is made by the library `tokenizers` of the file's own vocabulary and merges, and runs where the callers are: that of
an engine waits for the engine's step. Byte-level BPE alone, which every text can be told in
(https://github.com/openai/gpt-2/blob/master/src/encoder.py); how texts are split before is told by a name
(https://github.com/ggml-org/llama.cpp/blob/master/src/llama-vocab.cpp).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final

from headrace_engines.errors import NotAModel, Unanswerable
from headrace_engines.gguf_reading import I32, LISTS, U32, GgufFile

CONTROL, OF_ITS_OWN = 3, 4
"""Types of tokens that stand for no text, and of those that no other text is split or joined with."""
_MOST_TOKENS: Final = 1_000_000
_MOST_TOKEN_BYTES: Final = 1_024
_LLAMA_3: Final = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*"
    r"|\s*[\r\n]+|\s+(?!\S)|\s+"
)
_QWEN_2: Final = _LLAMA_3.replace(r"\p{N}{1,3}", r"\p{N}")
_ENDS: Final = ("eos_token_id", "eot_token_id")


class TextTokens:
    """The tokenizer of one file. Safe for use by many threads.

    Raises NotAModel for a file without one, and where the library is not installed.
    """

    def __init__(self, file: GgufFile) -> None:
        names = _names(file)
        kinds = _kinds(file, len(names))
        self.parts = tuple(map(_part, names, kinds))
        """The bytes that each token stands for, by its number; none for those of control."""
        self.ends = frozenset(token for name in _ENDS if (token := _number(file, name, len(names))) is not None)
        """The tokens that end an answer."""
        pre = str(file.metadata.get("tokenizer.ggml.pre", ""))
        is_begun = file.metadata.get("tokenizer.ggml.add_bos_token", pre == "llama-bpe")
        self._begin = _number(file, "bos_token_id", len(names)) if is_begun else None
        self.has_template = bool(file.metadata.get("tokenizer.chat_template"))
        """Whether the file says how a conversation becomes a prompt."""
        self._longest = max(map(len, names))
        self._tokenizer = _made(names, kinds, pre, _merges(file))

    def encode(self, text: str, most: int) -> list[int]:
        """Return the tokens of a prompt, with the one before it that the file asks for.

        Raises Unanswerable where there are more than so many.
        """
        tokens = self.encode_after(text, most)
        if self._begin is not None and tokens[:1] != [self._begin]:
            tokens.insert(0, self._begin)
        return tokens

    def encode_after(self, text: str, most: int) -> list[int]:
        """Return the tokens of what follows a prompt. Raises Unanswerable where there are more than so many."""
        # None takes long, however long the text is.
        if len(text) > most * max(1, self._longest):
            raise Unanswerable(f"expected at most {most} tokens, got a text of {len(text)} characters")
        try:
            tokens: list[int] = self._tokenizer.encode(text, add_special_tokens=False).ids
        except UnicodeEncodeError as error:
            raise Unanswerable(f"expected a text of whole characters, got {error}") from error
        if len(tokens) > most:
            raise Unanswerable(f"expected at most {most} tokens, got {len(tokens)}")
        return tokens


def _number(file: GgufFile, name: str, below: int) -> int | None:
    key = f"tokenizer.ggml.{name}"
    if key not in file.metadata:
        return None
    token = file.metadata[key]
    if file.kinds[key] != U32 or not isinstance(token, int) or token >= below:
        raise NotAModel(f"{key}: expected a u32 below {below}, got {token}")
    return token


def _names(file: GgufFile) -> Sequence[str]:
    model = file.metadata.get("tokenizer.ggml.model")
    if model != "gpt2":
        raise NotAModel(f"tokenizer.ggml.model: expected gpt2, a byte-level BPE, got {model}")
    names = file.metadata.get("tokenizer.ggml.tokens")
    if not isinstance(names, list) or not 1 <= len(names) <= _MOST_TOKENS or not isinstance(names[0], str):
        raise NotAModel(f"tokenizer.ggml.tokens: expected 1 to {_MOST_TOKENS} texts")
    texts = [str(name) for name in names]
    if max(len(name.encode()) for name in texts) > _MOST_TOKEN_BYTES:
        raise NotAModel(f"tokenizer.ggml.tokens: expected at most {_MOST_TOKEN_BYTES} bytes each")
    if len(set(texts)) < len(texts):
        raise NotAModel("tokenizer.ggml.tokens: expected each once, got one twice")
    return texts


def _kinds(file: GgufFile, items: int) -> list[Any]:
    key = "tokenizer.ggml.token_type"
    found = file.metadata.get(key)
    if not isinstance(found, list) or file.kinds[key] != LISTS + I32 or len(found) != items:
        raise NotAModel(f"{key}: expected a list of {items} i32")
    return found


def _merges(file: GgufFile) -> list[tuple[str, str]]:
    found = file.metadata.get("tokenizer.ggml.merges")
    if not isinstance(found, list) or any(str(merge).count(" ") != 1 for merge in found):
        raise NotAModel("tokenizer.ggml.merges: expected a list of texts, each of two tokens with a space between")
    parted = (str(merge).split(" ") for merge in found)
    return [(left, right) for left, right in parted]


def _made(names: Sequence[str], kinds: Sequence[int], pre: str, merges: list[tuple[str, str]]) -> Any:
    try:
        import tokenizers
        from tokenizers import models
    except ImportError as error:
        raise NotAModel(
            f"models of language need more libraries: install headrace-engines[generation] ({error})"
        ) from error
    if pre not in _SPLITS:
        raise NotAModel(f"tokenizer.ggml.pre: expected {', '.join(_SPLITS)}, got {pre!r}")
    try:
        vocabulary = {name: number for number, name in enumerate(names)}
        made: Any = tokenizers.Tokenizer(models.BPE(vocab=vocabulary, merges=merges, ignore_merges=pre == "llama-bpe"))
        normalizer, made.pre_tokenizer = _SPLITS[pre]()
        if normalizer is not None:
            made.normalizer = normalizer
        for kind, add in ((CONTROL, made.add_special_tokens), (OF_ITS_OWN, made.add_tokens)):
            texts = [name for name, each in zip(names, kinds, strict=True) if each == kind]
            add([tokenizers.AddedToken(text, normalized=False, special=kind == CONTROL) for text in texts])
    except Exception as error:  # the library's have no base of their own
        raise NotAModel(f"expected a tokenizer in tokenizer.ggml, got {error}") from error
    return made


def _gpt_2() -> tuple[Any, Any]:
    from tokenizers import pre_tokenizers

    return None, pre_tokenizers.ByteLevel(add_prefix_space=False)


def _smollm() -> tuple[Any, Any]:
    from tokenizers import pre_tokenizers

    digits = pre_tokenizers.Digits(individual_digits=True)
    return None, pre_tokenizers.Sequence([digits, pre_tokenizers.ByteLevel(add_prefix_space=False)])


def _llama_3() -> tuple[Any, Any]:
    return None, _split(_LLAMA_3)


def _qwen_2() -> tuple[Any, Any]:
    from tokenizers import normalizers

    return normalizers.NFC(), _split(_QWEN_2)


def _split(pattern: str) -> Any:
    from tokenizers import Regex, pre_tokenizers

    return pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(pattern), "isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )


_SPLITS: Final[Mapping[str, Callable[[], tuple[Any, Any]]]] = {
    "gpt-2": _gpt_2,
    "smollm": _smollm,
    "llama-bpe": _llama_3,
    "qwen2": _qwen_2,
}
"""What makes the normaliser and the split of a text, by the name that files have for it."""


def _alphabet() -> dict[str, int]:
    """Return the bytes by the letters that stand for them: printable ones for themselves, others from 256 on."""
    plain = [*range(ord("!"), ord("~") + 1), *range(0xA1, 0xAC + 1), *range(0xAE, 0xFF + 1)]
    others = [byte for byte in range(256) if byte not in plain]
    return {chr(byte): byte for byte in plain} | {chr(256 + place): byte for place, byte in enumerate(others)}


_ALPHABET: Final = _alphabet()


def _part(name: str, kind: int) -> bytes:
    if kind == CONTROL:
        return b""
    if kind != OF_ITS_OWN and all(letter in _ALPHABET for letter in name):
        return bytes(_ALPHABET[letter] for letter in name)
    return name.encode()
