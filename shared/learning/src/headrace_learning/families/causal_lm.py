"""A model of language that others have trained, learned on by answers: all of it, or a difference of each matrix.

The library transformers has the layers, peft the differences, and gguf the file that is served. They are an extra
(`headrace-learning[generation]`) and imported where a network is built.
"""

from collections.abc import Sequence
from typing import Any, Final

from headrace_data.spec import CausalLanguageModel, Train
from headrace_data.transforms import FittedText
from torch import nn

from headrace_learning.adapters import adapted, merged
from headrace_learning.errors import NotLearnable
from headrace_learning.families.family import Family, Fitted, Run, Sources
from headrace_learning.features import Feature
from headrace_learning.language_models.base import LanguageBase
from headrace_learning.language_models.dialogue import FittedDialogue
from headrace_learning.language_models.network import LEARNED, LanguageNetwork
from headrace_learning.networks import count_learned
from headrace_learning.training.objectives import Objective
from headrace_learning.training.optimizers import remembered_vectors
from headrace_learning.training.ports import Artifacts
from headrace_learning.training.private import training_of
from headrace_learning.training.randomness import seed_weights
from headrace_learning.training.transfer import begin

_NUMBER_BYTES: Final = 4
_VALUES: Final = 16
"""Numbers as wide as a token that a layer leaves of it for the gradients, about, beside its wide part."""


class CausalLanguage(Family):
    """Writes answers. It has to be opened: what it begins with lies in the object store."""

    def __init__(self, base: LanguageBase | None = None, length: int = 0) -> None:
        self._base = base
        self._length = length

    @property
    def base(self) -> LanguageBase:
        """What it begins with."""
        if self._base is None:
            raise NotLearnable("train.network.kind: expected a causal-lm that was opened, got one without its weights")
        return self._base

    def opened(self, section: CausalLanguageModel, artifacts: Artifacts) -> "CausalLanguage":
        """Return the family with the files that a spec names."""
        return CausalLanguage(LanguageBase.read(section, artifacts), section.length)

    def features(self, features: Sequence[Feature]) -> Sequence[Feature]:
        """Return the prompt, or the nothing that is answered, with its words."""
        texts = [each.fitted for each in features if isinstance(each.fitted, FittedText) and each.fitted.kind == "text"]
        if len(texts) != len(features) or len(texts) > 1:
            names = ", ".join(f"{feature.name} ({feature.fitted.kind})" for feature in features)
            raise NotLearnable(
                f"train.network.kind: causal-lm expects one feature, or none, a text with encode: text, got {names}"
            )
        return [Feature(FittedDialogue(texts[0] if texts else None, self.base.words, self._length))]

    def input_shape(self, features: Sequence[Feature]) -> tuple[int, ...]:
        """Return where what is learned begins, and the most tokens of a row."""
        return (features[0].fitted.width,)

    def parameters(self, section: CausalLanguageModel, shape: Sequence[int], outputs: int) -> int:
        """Return how many numbers are learned."""
        if section.tune == "full":
            return self.base.numbers
        matrices = [
            each for name, each in self.base.tensors.items() if name.split(".")[-2] in LEARNED and each.ndim > 1
        ]
        sides: int = sum(sum(each.shape) for each in matrices)
        return section.rank * sides

    def least_bytes(
        self, train: Train, shape: Sequence[int], outputs: int, rows: tuple[int, int], held_bytes: int
    ) -> int:
        """Return the memory that training takes at least.

        Counted are the weights as read and as merged, for each number that is learned what it takes in the loop, and
        what the layers leave of one row. How many rows of a batch are as long as they may be is not known.
        """
        section: Any = train.network
        of = self.base.shape
        learned = self.parameters(section, shape, outputs)
        copies: int = 3 + remembered_vectors(train.optimizer)
        left = of.layers * (_VALUES * of.width + 3 * of.inner) * section.length
        vectors: int = 2 * self.base.numbers + copies * learned + left
        return held_bytes + _NUMBER_BYTES * vectors

    def fit(self, section: CausalLanguageModel, rows: Sources, objective: Objective, run: Run) -> Fitted:
        """Tune from the weights of others, another version's, or the newest checkpoint's."""
        seed_weights(run.train.seed)
        network = LanguageNetwork.of(self.base)
        train = run.train.model_copy(update={"freeze": (), "rates": {}, "augment": None})
        begun = begin(network, run.origin, train) if run.origin else None
        if section.tune == "lora":
            network.requires_grad_(False)
            network.body = adapted(network.body, section.rank, LEARNED, "generation")
        outcome = training_of(train)(
            network, train, objective, rows.train, rows.validation, run.subject, run.checkpoints, run.progress
        ).run()
        learned = count_learned(network)
        if section.tune == "lora":
            network.body = merged(network.body)
        network.zero_grad(set_to_none=True)
        libraries = ("gguf", "tokenizers", "transformers", *(("peft",) if section.tune == "lora" else ()))
        return Fitted(_ended(network), outcome, learned, tuple(sorted(libraries)), begun)


def _ended(network: nn.Module) -> nn.Module:
    return network.requires_grad_(True).eval()


FAMILY = CausalLanguage()
