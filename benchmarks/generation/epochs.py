"""One epoch of LoRA on a model of 135 million weights: python -m benchmarks.generation.epochs ours|plain MODEL.

`ours` is the family `causal-lm` as a training run calls it; `plain` is peft in the loop that one would write: rows
filled up to the longest of their batch, transformers' own loss. Both begin with the weights in memory and end with the
merged model; both learn the same rows in batches of the same size, in float32, by AdamW, with as many threads.
"""

from __future__ import annotations

import json
import os
import sys
import time
import warnings
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Final

import numpy as np
import peft
import torch
import transformers
from headrace_data.canonical import sha256_digest
from headrace_data.folder import FileRef, Folder
from headrace_data.spec import CausalLanguageModel, Train
from headrace_data.transforms.text import FittedLanguage
from headrace_learning.families import causal_lm
from headrace_learning.families.causal_lm import CausalLanguage
from headrace_learning.families.family import Run, Sources
from headrace_learning.features import Feature
from headrace_learning.heads.generation import NextToken, ServedText, counted
from headrace_learning.language_models.network import LEARNED
from headrace_learning.training.checkpoint import Checkpoint
from headrace_learning.training.randomness import make_deterministic
from headrace_learning.training.rows import Rows

from benchmarks.generation.lora import BATCH, LENGTH, RANK, ROWS

_RATE: Final = 0.0005
_WORDS: Final = ["the", "mill", "turns", "when", "river", "is", "high", "and", "who", "brought", "grain", "to"]
_EVEN: Final = 64
"""Words of prompt and of answer where rows have one length."""


class Nothing:
    """Keeps no checkpoints, and remembers the loss."""

    loss = 0.0

    def newest(self, subject: str) -> Checkpoint | None:
        """Return none."""
        return None

    def due(self, *, midway: bool) -> bool:
        """Return False."""
        return False

    def save(self, checkpoint: Checkpoint) -> None:
        """Do nothing."""

    def progress(self, step: int, steps: int, metrics: Mapping[str, float], eta_s: float) -> None:
        """Take note of the loss."""
        self.loss = metrics["train_loss"]


class Shelf:
    """A GGUF file as `headrace import` keeps it."""

    def __init__(self, model: Path) -> None:
        data = model.read_bytes()
        listed = Folder({"model.gguf": FileRef(sha256_digest(data), len(data))}).to_json()
        self._files = {sha256_digest(each): each for each in (data, listed)}
        plain = {"kind": "causal-lm", "digest": sha256_digest(listed), "size_bytes": len(listed)}
        self.section = CausalLanguageModel.model_validate(plain | {"length": LENGTH, "rank": RANK})

    def read(self, digest: str, size_bytes: int) -> bytes:
        """Return a file."""
        return self._files[digest]


def rows_of(family: CausalLanguage, kind: str) -> Rows:
    """Return rows: prompts and answers of 4 to 60 words, most of them few, or all of as many."""
    random, count = np.random.default_rng(0), ROWS[kind]
    sizes = np.clip(random.lognormal(2.3, 0.8, 2 * count), 4, 60) if kind == "as they come" else [_EVEN] * 2 * count
    texts = [" ".join(random.choice(_WORDS, int(size))) for size in sizes]
    columns = {"prompt": np.array(texts[:count], dtype=object), "answer": np.array(texts[count:], dtype=object)}
    features = family.features([Feature(FittedLanguage("prompt"))])
    inputs = ServedText("answer", features, (), torch.nn.Identity()).prepare(columns)
    return counted(inputs, torch.zeros(count))


def ours(family: CausalLanguage, section: CausalLanguageModel, rows: Rows) -> float:
    """Train an epoch as a run does; one row validates. Return the mean loss."""
    plain = {"network": section.plain(), "task": "generation", "epochs": 1, "batchSize": BATCH}
    train = Train.model_validate(plain | {"optimizer": {"kind": "adamw", "learningRate": _RATE}})
    nothing, one = Nothing(), Rows(rows.inputs[:1], rows.targets[:1])
    run = Run(train, (1 + LENGTH,), 1, "benchmark", nothing, nothing)
    family.fit(section, Sources(rows, one), NextToken(), run)
    return nothing.loss


def plain(family: CausalLanguage, _section: CausalLanguageModel, rows: Rows) -> float:
    """Train an epoch with peft in a loop of a few lines. Return the mean loss."""
    base = family.base
    model: Any = transformers.LlamaForCausalLM(transformers.LlamaConfig(**base.shape.config()))
    model.load_state_dict({**base.tensors, "lm_head.weight": base.tensors["model.embed_tokens.weight"]})
    config = peft.LoraConfig(r=RANK, lora_alpha=2 * RANK, target_modules=list(LEARNED))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)
        model = peft.get_peft_model(model, config)
    optimizer = torch.optim.AdamW([each for each in model.parameters() if each.requires_grad], lr=_RATE)
    model.train()
    losses = []
    for some in torch.split(torch.randperm(len(rows)), BATCH):
        inputs = rows.inputs[some].to(torch.int64)
        tokens = inputs[:, 1:]
        mask = tokens >= 0
        longest = int(mask.sum(dim=1).max())
        tokens, mask = tokens[:, :longest], mask[:, :longest]
        answers = mask & (torch.arange(longest) >= inputs[:, :1])
        loss = model(input_ids=tokens.clamp(min=0), attention_mask=mask, labels=torch.where(answers, tokens, -100)).loss
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
        losses.append(float(loss.detach()))
    model.merge_and_unload()
    return float(np.mean(losses))


Epoch = Callable[[CausalLanguage, CausalLanguageModel, Rows], float]
SIDES: Final[Mapping[str, Epoch]] = {"ours": ours, "plain": plain}


def main() -> None:
    """Answer each line of the standard input, what rows are like, with the figures of an epoch."""
    side, model = SIDES[sys.argv[1]], Path(sys.argv[2])
    shelf = Shelf(model)
    family = causal_lm.FAMILY.opened(shelf.section, shelf)
    rows = {kind: rows_of(family, kind) for kind in ROWS}
    # As a run with compute.threads auto: on all cores.
    make_deterministic(os.cpu_count() or 1)
    print(json.dumps({"ready": True}), flush=True)
    for line in sys.stdin:
        some = rows[line.strip()]
        tokens = int((some.inputs[:, 1:] >= 0).sum())
        torch.manual_seed(0)
        wall, cpu = time.perf_counter(), time.process_time()
        loss = side(family, shelf.section, some)
        taken = {"wall_s": time.perf_counter() - wall, "cpu_s": time.process_time() - cpu}
        print(json.dumps(taken | {"tokens": tokens, "loss": loss}), flush=True)


if __name__ == "__main__":
    main()
