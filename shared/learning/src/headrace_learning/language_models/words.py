"""The words of a model of language: its tokenizer, its chat template, and the tokens that begin and end a text."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Final

from headrace_learning.errors import NotLearnable
from headrace_learning.libraries import library

PLAIN_TEMPLATE: Final = "{% for message in messages %}{{ message['content'] }}\n{% endfor %}"
"""Of a model that was never told of turns: each text by itself, and what comes behind it is the answer."""
_OF_TURNS: Final = ("<|endoftext|>", "<|im_start|>", "<|im_end|>")
_TURNS: Final = (
    "{% for message in messages %}{{ '<|im_start|>' + message['role'] + '\\n' + message['content'] }}"
    "{{ '<|im_end|>\\n' }}{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\\n' }}{% endif %}"
)
"""The chat template of a new model: ChatML."""
_MOST_TEMPLATE: Final = 64 * 2**10
_MOST_RENDERED: Final = 2**22
_BYTES: Final = {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True}
_DIGITS: Final = {"type": "Digits", "individual_digits": True}
_CUT: Final = (
    "(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\\r\\n\\p{{L}}\\p{{N}}]?\\p{{L}}+|\\p{{N}}{digits}|"
    " ?[^\\s\\p{{L}}\\p{{N}}]+[\\r\\n]*|\\s*[\\r\\n]+|\\s+(?!\\S)|\\s+"
)


def _cut(digits: str) -> dict[str, Any]:
    pattern = {"Regex": _CUT.format(digits=digits)}
    split = {"type": "Split", "pattern": pattern, "behavior": "Isolated", "invert": False}
    return {"type": "Sequence", "pretokenizers": [split, {**_BYTES, "use_regex": False}]}


CUTS: Final[Mapping[str, dict[str, Any]]] = {
    "smollm": {"type": "Sequence", "pretokenizers": [_DIGITS, {**_BYTES, "use_regex": True}]},
    "gpt-2": {**_BYTES, "use_regex": True},
    "llama-bpe": _cut("{1,3}"),
    "qwen2": _cut(""),
}
"""How a text is cut before its bytes are joined to tokens: by GGUF's `tokenizer.ggml.pre`, as tokenizers has it."""
_ALIASES: Final = {"default": "gpt-2", "gpt2": "gpt-2", "llama3": "llama-bpe", "llama-v3": "llama-bpe"}


@dataclass(frozen=True)
class Words:
    """What a model of language makes of texts."""

    tokens: tuple[str, ...]
    """Every token by its number, bytes as byte-level BPE spells them."""
    merges: tuple[str, ...]
    """Which two tokens are joined, first things first: both with a space between."""
    added: Mapping[str, bool]
    """Tokens that stand for themselves in a text, and whether they are no part of what is read."""
    cut: str
    """A key of `CUTS`."""
    begin: str | None
    """The token that a text begins with; None where there is none."""
    end: str
    """The token that ends an answer."""
    template: str
    """The chat template, in Jinja."""
    prefixed: bool = False
    """Whether every prompt begins with `begin`, whatever the template says."""

    def __post_init__(self) -> None:
        if len(self.template) > _MOST_TEMPLATE:
            raise NotLearnable(
                f"train.network.digest: expected a chat template of at most {_MOST_TEMPLATE} characters, got "
                f"{len(self.template)}"
            )
        if self.end not in self.places:
            raise NotLearnable(f"train.network.digest: expected the token {self.end!r}, which ends answers, got none")

    @cached_property
    def places(self) -> Mapping[str, int]:
        """The number of each token."""
        return {token: place for place, token in enumerate(self.tokens)}

    @cached_property
    def tokenizer(self) -> Any:
        """The tokenizer, of the library tokenizers."""
        tokenizers = library("tokenizers", "generation")
        plain = {
            "version": "1.0",
            "truncation": None,
            "padding": None,
            "normalizer": {"type": "NFC"} if self.cut == "qwen2" else None,
            "added_tokens": [
                {
                    "id": self.places[token],
                    "content": token,
                    "special": special,
                    **dict.fromkeys(("single_word", "lstrip", "rstrip", "normalized"), False),
                }
                for token, special in sorted(self.added.items(), key=lambda each: self.places[each[0]])
            ],
            "pre_tokenizer": CUTS[self.cut],
            "post_processor": None,
            "decoder": {**_BYTES, "use_regex": True},
            "model": {
                "type": "BPE",
                "dropout": None,
                "unk_token": None,
                "continuing_subword_prefix": None,
                "end_of_word_suffix": None,
                "fuse_unk": False,
                "byte_fallback": False,
                "ignore_merges": self.cut == "llama-bpe",
                "vocab": dict(self.places),
                "merges": list(self.merges),
            },
        }
        try:
            return tokenizers.Tokenizer.from_str(json.dumps(plain))
        except Exception as error:  # what tokenizers raises is no more than this
            raise NotLearnable(
                f"train.network.digest: expected tokens and merges of a BPE, got others ({error})"
            ) from error

    def encoded(self, texts: Sequence[str]) -> list[list[int]]:
        """Return the tokens of each text."""
        return [each.ids for each in self.tokenizer.encode_batch(list(texts), add_special_tokens=False)]

    def prompt(self, text: str) -> str:
        """Return what a text becomes as the only turn, up to where the answer begins. Raises NotLearnable."""
        chat: Any = library("transformers.utils.chat_template_utils", "generation")
        turns = [[{"role": "user", "content": text}]]
        told = {"bos_token": self.begin or "", "eos_token": self.end}
        try:
            # In a sandbox of jinja2, which runs nothing but what texts and lists can do.
            (rendered,), _ = chat.render_jinja_template(
                turns, chat_template=self.template, add_generation_prompt=True, **told
            )
        except Exception as error:  # a template raises what it likes
            raise NotLearnable(
                f"train.network.digest: expected a chat template for one turn of a user, got {error!r}"
            ) from error
        made: str = rendered
        if len(made) > len(text) * 16 + _MOST_RENDERED:
            raise NotLearnable("train.network.digest: expected a chat template that adds little to a text, got another")
        prefix = self.begin or ""
        return prefix + made if self.prefixed and not made.startswith(prefix) else made

    @property
    def beginning(self) -> str:
        """What a text stands behind that answers nothing."""
        return self.begin or self.end


def trained_words(texts: Iterable[str], most: int) -> Words:
    """Return words made of texts: a byte-level BPE of so many tokens at most, cut as `smollm`, and turns as ChatML.

    Sennrich, Haddow and Birch, "Neural Machine Translation of Rare Words with Subword Units" (ACL 2016).
    """
    tokenizers: Any = library("tokenizers", "generation")
    made = tokenizers.Tokenizer(tokenizers.models.BPE())
    made.pre_tokenizer = tokenizers.pre_tokenizers.Sequence(
        [
            tokenizers.pre_tokenizers.Digits(individual_digits=True),
            tokenizers.pre_tokenizers.ByteLevel(add_prefix_space=False),
        ]
    )
    trainer = tokenizers.trainers.BpeTrainer(
        vocab_size=most,
        special_tokens=list(_OF_TURNS),
        initial_alphabet=sorted(tokenizers.pre_tokenizers.ByteLevel.alphabet()),
        show_progress=False,
    )
    made.train_from_iterator(texts, trainer)
    plain = json.loads(made.to_str())["model"]
    return Words(
        tokens=_by_number(plain["vocab"]),
        merges=tuple(each if isinstance(each, str) else " ".join(each) for each in plain["merges"]),
        added=dict.fromkeys(_OF_TURNS, True),
        cut="smollm",
        begin=_OF_TURNS[0],
        end=_OF_TURNS[2],
        template=_TURNS,
    )


def cut_of_gguf(name: str) -> str:
    """Return the key of `CUTS` for what a GGUF file calls it. Raises NotLearnable."""
    found = _ALIASES.get(name, name)
    if found not in CUTS:
        raise NotLearnable(f"train.network.digest: expected tokenizer.ggml.pre among {', '.join(CUTS)}, got {name!r}")
    return found


def read_tokenizer(plain: Any, told: Mapping[str, Any]) -> Words:
    """Return the words of a `tokenizer.json` and the settings beside it. Raises NotLearnable for another kind."""
    model = plain.get("model") if isinstance(plain, dict) else None
    if not isinstance(model, dict) or model.get("type") != "BPE" or not isinstance(model.get("vocab"), dict):
        raise NotLearnable("train.network.digest: expected a byte-level BPE in tokenizer.json, got another tokenizer")
    if plain.get("normalizer") not in (None, {"type": "NFC"}):
        raise NotLearnable(f"train.network.digest: expected no normalizer in tokenizer.json, got {plain['normalizer']}")
    merges = [each if isinstance(each, str) else " ".join(each) for each in model.get("merges", [])]
    added = {each["content"]: bool(each.get("special")) for each in plain.get("added_tokens", [])}
    numbers = {**model["vocab"], **{each["content"]: each["id"] for each in plain.get("added_tokens", [])}}
    return Words(
        tokens=_by_number(numbers),
        merges=tuple(merges),
        added=added,
        cut=_cut_of(plain.get("pre_tokenizer")),
        begin=_token(told.get("bos_token")),
        end=_token(told.get("eos_token")) or "",
        template=_template(told.get("chat_template")) or PLAIN_TEMPLATE,
        prefixed=bool(told.get("add_bos_token", False)),
    )


def _by_number(numbers: Mapping[str, Any]) -> tuple[str, ...]:
    count = len(numbers)
    tokens = [""] * count
    for token, place in numbers.items():
        if not isinstance(place, int) or not 0 <= place < count or tokens[place]:
            raise NotLearnable(f"train.network.digest: expected tokens from 0 to {count - 1}, each once, got {place!r}")
        tokens[place] = token
    return tuple(tokens)


def _cut_of(told: Any) -> str:
    """Return the key of `CUTS` for how a `tokenizer.json` cuts texts."""
    wanted = _essence(told)
    found = next((name for name, cut in CUTS.items() if _essence(cut) == wanted), None)
    if found is None:
        raise NotLearnable(
            f"train.network.digest: expected a pre_tokenizer as {', '.join(CUTS)} have it, got {json.dumps(told)[:200]}"
        )
    return found


def _essence(cut: Any) -> Any:
    """Return how texts are cut, without what makes no difference to it."""
    if not isinstance(cut, dict):
        return cut
    if cut.get("type") == "Sequence":
        return [_essence(each) for each in cut.get("pretokenizers", [])]
    kept = ("type", "add_prefix_space", "use_regex", "pattern", "behavior", "invert", "individual_digits")
    found = {key: cut[key] for key in kept if key in cut}
    return found | ({"use_regex": cut.get("use_regex", True)} if cut.get("type") == "ByteLevel" else {})


def _token(told: Any) -> str | None:
    found = told.get("content") if isinstance(told, dict) else told
    return found if isinstance(found, str) and found else None


def _template(told: Any) -> str | None:
    if isinstance(told, list):
        told = next(
            (each.get("template") for each in told if isinstance(each, dict) and each.get("name") == "default"), None
        )
    return told if isinstance(told, str) and told else None
