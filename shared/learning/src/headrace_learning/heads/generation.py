"""Generation: each token of an answer by those before it, the loss that of every model of language."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from math import exp

import torch
from headrace_data.spec import Pipeline
from headrace_data.tasks import Classes
from headrace_data.tasks.generation import NATS_PER_TOKEN, PERPLEXITY, Bytes
from torch import nn

from headrace_learning.features import Feature
from headrace_learning.graphs import Array, Columns
from headrace_learning.heads.head import Learned
from headrace_learning.language_models.dialogue import FittedDialogue
from headrace_learning.served import Served
from headrace_learning.text_export import export_text
from headrace_learning.training.rows import Rows

NEXT_RIGHT = "next_token_accuracy"
"""Of progress: share of the tokens that are the likeliest, given those before."""
_LARGEST = 700.0


@dataclass(frozen=True)
class NextToken:
    """Cross-entropy in nats; outputs are those of a `LanguageNetwork`, targets the tokens of each row, [rows] int64."""

    def loss(self, outputs: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
        """Return the mean over all tokens that are learned: 0 where there are none."""
        return outputs[:, 0].sum() / targets.sum().clamp(min=1)

    def weight(self, targets: torch.Tensor) -> float:
        """Return the number of these tokens."""
        return float(targets.sum())

    def measure(self, outputs: torch.Tensor, targets: torch.Tensor) -> dict[str, float]:
        """Return nats, right tokens and tokens of a row."""
        means = outputs.to(torch.float64).mean(dim=0).tolist()
        return {"nats": means[0], "right": means[1], "tokens": float(targets.to(torch.float64).mean())}

    def told(self, means: Mapping[str, float]) -> dict[str, float]:
        """Return perplexity, what ends an answer counted as a token of it, and the accuracy of single tokens."""
        tokens = means["tokens"] or 1.0
        per_token = means["nats"] / tokens
        return {
            PERPLEXITY.name: exp(min(per_token, _LARGEST)),
            NATS_PER_TOKEN.name: per_token,
            NEXT_RIGHT: means["right"] / tokens,
        }


class ServedText(Served):
    """Writes: a prompt in, an answer out, token by token."""

    def __init__(self, label: str, features: Sequence[Feature], _shape: Sequence[int], network: nn.Module) -> None:
        """`label` is the name of the field with the answers. `features` is one, which a family made of the prompt."""
        super().__init__()
        self.features = tuple(features)
        self.network = network
        self.label = label
        dialogue = features[0].fitted
        if not isinstance(dialogue, FittedDialogue):
            raise TypeError(f"features: expected prompts and answers, got {dialogue!r}")
        self.dialogue = dialogue

    def prompts(self, columns: Columns, rows: int) -> list[str]:
        """Return what stands before the answers of some rows."""
        return self.dialogue.prompts(columns.get(self.dialogue.name), rows)

    def prepare(self, columns: Columns) -> torch.Tensor:
        """Return the tokens of prompts and answers, [rows, 1 + length] int32, as `packed` takes them."""
        return torch.from_numpy(self.dialogue.rows(columns.get(self.dialogue.name), columns[self.label]))

    def prepare_training(self, columns: Columns) -> torch.Tensor:
        """Return the same."""
        return self.prepare(columns)

    def weights(self) -> dict[str, torch.Tensor]:
        """Return a copy of the weights, by name."""
        return {f"network.{name}": each.detach().cpu().clone() for name, each in self.network.state_dict().items()}


def _uncounted(labels: Array) -> torch.Tensor:
    return torch.zeros(len(labels), dtype=torch.int64)


def counted(inputs: torch.Tensor, _targets: torch.Tensor) -> Rows:
    """Return rows with the number of tokens that are learned of each as targets."""
    tokens = (inputs[:, 1:] >= 0).sum(dim=1)
    return Rows(inputs, (tokens - inputs[:, 0]).clamp(min=0).to(torch.int64))


def learn(pipeline: Pipeline, _places: Classes, _labels: Bytes) -> Learned:
    """Return what is learned."""
    serve = partial(ServedText, pipeline.stream.label.name)
    return Learned(1, NextToken(), _uncounted, serve, counted, export=export_text)
