"""BERT over a text or a pair, from weights that others have trained: all tuned, a difference, or its head alone.

The library transformers has the layers, and peft the differences, which are added to the weights before the graph is
written. Both are an extra (`headrace-learning[encoder]`) and imported where a network is built.
"""

from collections.abc import Callable, Generator, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any, Final

from headrace_data.spec import EncoderNetwork, Train
from headrace_data.spec.feature_rules import READ_TOGETHER
from headrace_data.transforms import FittedText
from headrace_engines.properties import Tokenised
from headrace_engines.tokens import Tokenizer
from torch import nn

from headrace_learning.adapters import adapted, merged
from headrace_learning.errors import NotLearnable
from headrace_learning.families.family import Family, Fitted, Run, Sources
from headrace_learning.families.pretrained import Pretrained
from headrace_learning.families.text_network import TextNetwork, pooled_rows
from headrace_learning.families.token_dropout import with_hidden
from headrace_learning.features import Feature
from headrace_learning.language import FittedSecond, FittedTokens
from headrace_learning.networks import count_learned
from headrace_learning.training.objectives import Objective
from headrace_learning.training.optimizers import remembered_vectors
from headrace_learning.training.ports import Artifacts
from headrace_learning.training.private import training_of
from headrace_learning.training.randomness import seed_weights
from headrace_learning.training.rows import Rows, Source
from headrace_learning.training.transfer import begin

_ADAPTED: Final = ("query", "value")
"""The weights of the attention that a difference is learned of (Hu et al., "LoRA", ICLR 2022, section 7.1).

Differences of every dense layer learned a thousand sentences quicker and answered others no better.
"""
_NUMBER_BYTES: Final = 4


class Encoder(Family):
    """Reads one text, or two as one. It has to be opened: what it begins with lies in the object store."""

    def __init__(self, base: Pretrained | None = None, length: int = 0) -> None:
        self._base = base
        self._length = length

    @property
    def base(self) -> Pretrained:
        """What it begins with."""
        if self._base is None:
            raise NotLearnable("train.network.kind: expected an encoder that was opened, got one without its weights")
        return self._base

    def opened(self, section: EncoderNetwork, artifacts: Artifacts) -> "Encoder":
        """Return the family with the folder that a spec names."""
        base = Pretrained.read(section, artifacts)
        if section.length > (most := base.config["max_position_embeddings"]):
            raise NotLearnable(f"train.network.length: expected at most {most} tokens, got {section.length}")
        return Encoder(base, section.length)

    def features(self, features: Sequence[Feature]) -> Sequence[Feature]:
        """Return the text, or the two of a pair, with its tokenizer."""
        fitted = [feature.fitted for feature in features]
        texts = [each for each in fitted if isinstance(each, FittedText) and each.kind == "text"]
        if len(texts) != len(features) or len(texts) not in READ_TOGETHER:
            names = ", ".join(f"{feature.name} ({feature.fitted.kind})" for feature in features)
            raise NotLearnable(
                f"train.network.kind: encoder expects one feature or two, each a text with encode: text, got {names}"
            )
        self.require_types(len(texts))
        tokens = FittedTokens(texts, self.base.tokenizer, self._length)
        if tokens.largest >= self.base.config["vocab_size"]:
            raise NotLearnable(
                f"train.network.digest: expected a tokenizer of at most {self.base.config['vocab_size']} tokens, which "
                f"the model knows, got number {tokens.largest}"
            )
        others = [replace(each, fitted=FittedSecond(text)) for each, text in zip(features[1:], texts[1:], strict=True)]
        return [replace(features[0], fitted=tokens), *others]

    def require_types(self, texts: int) -> None:
        """Raise `NotLearnable` for a model that does not tell so many texts of a row apart."""
        if texts > self.base.config["type_vocab_size"]:
            raise NotLearnable(
                "train.network.digest: expected a model that tells two texts apart, with type_vocab_size 2, got 1"
            )

    def input_shape(self, features: Sequence[Feature]) -> tuple[int, ...]:
        """Return the most tokens of a row, once for each of its texts."""
        return (features[0].fitted.width,)

    def parameters(self, section: EncoderNetwork, shape: Sequence[int], outputs: int) -> int:
        """Return how many numbers are learned."""
        config = self.base.config
        width: int = config["hidden_size"]
        head: int = (width + 1) * outputs
        if section.tune == "full":
            return head + self.base.numbers
        adapters: int = config["num_hidden_layers"] * len(_ADAPTED) * 2 * width * section.rank
        return head + (adapters if section.tune == "lora" else 0)

    def least_bytes(
        self, train: Train, shape: Sequence[int], outputs: int, rows: tuple[int, int], held_bytes: int
    ) -> int:
        """Return the memory that training takes at least.

        Counted are the weights as read and as tuned, for each number that is learned what it takes in the loop, and
        what one layer leaves of a batch; of a frozen encoder, what it makes of each row.
        """
        section: Any = train.network
        config = self.base.config
        learned = self.parameters(section, shape, outputs)
        copies: int = 3 + remembered_vectors(train.optimizer)
        batch: int = min(train.batch_size, rows[0]) * config["hidden_size"]
        kept: int = (
            sum(rows) * config["hidden_size"] if section.tune == "frozen" else batch * config["num_hidden_layers"]
        )
        return held_bytes + _NUMBER_BYTES * (2 * self.base.numbers + copies * learned + kept)

    def build(self, section: EncoderNetwork, shape: Sequence[int], outputs: int) -> TextNetwork:
        """Return what it begins with, and a head of PyTorch's global generator."""
        width, texts = self.base.config["hidden_size"], shape[0] // section.length
        return TextNetwork(self.base.encoder(), width, section.pooling, outputs, texts, embedding=section.embedding)

    def fit(self, section: EncoderNetwork, rows: Sources, objective: Objective, run: Run) -> Fitted:
        """Tune from the weights of others and the seed's head, another version's, or the newest checkpoint's."""
        seed_weights(run.train.seed)
        network = self.build(section, run.shape, run.outputs)
        # Layers are said of those of another version, and here most of what learns is no layer of one.
        train = run.train.model_copy(update={"freeze": (), "rates": {}, "augment": None})
        begun = begin(network, run.origin, train) if run.origin else None
        learner: nn.Module = network
        if section.tune == "lora":
            network.encoder = adapted(network.encoder, section.rank, _ADAPTED)
        elif section.tune == "frozen":
            network.encoder.eval()
            learner = network.head
            rows = Sources(*(_pooled(source, network) for source in (rows.train, rows.validation)))
        augment = run.train.augment
        if augment is not None and augment.token_dropout > 0:
            tokenizer = Tokenizer(Tokenised(length=section.length, tokenizer=self.base.tokenizer))
            rows = Sources(with_hidden(rows.train, augment.token_dropout, tokenizer), rows.validation)
        outcome = training_of(train)(
            learner, train, objective, rows.train, rows.validation, run.subject, run.checkpoints, run.progress
        ).run()
        learned = count_learned(learner)
        if section.tune == "lora":
            network.encoder = merged(network.encoder)
        network.requires_grad_(True).eval()
        libraries = ("tokenizers", "transformers") if section.tune != "lora" else ("peft", "tokenizers", "transformers")
        return Fitted(network, outcome, learned, libraries, begun)


def _pooled(source: Source, network: TextNetwork) -> Source:
    """Return what an encoder that does not change makes of rows: once for all, where they are in memory."""
    change = _changed(network)
    return change(source) if isinstance(source, Rows) else _Pooled(source, change)


def _changed(network: TextNetwork) -> Callable[[Rows], Rows]:
    return lambda rows: Rows(pooled_rows(network, rows.inputs), rows.targets)


@dataclass(frozen=True)
class _Pooled:
    """Rows as an encoder reads them, each time that they come."""

    source: Source
    change: Callable[[Rows], Rows]

    def __len__(self) -> int:
        return len(self.source)

    def batches(self, size: int, seed: int, epoch: int) -> Generator[Rows, None, None]:
        for rows in self.source.batches(size, seed, epoch):
            yield self.change(rows)

    def chunks(self) -> Iterator[Rows]:
        yield from map(self.change, self.source.chunks())


FAMILY = Encoder()
