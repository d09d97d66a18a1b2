"""Scores of the engine are those of `transformers` for the same weights."""

from __future__ import annotations

import runpy
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from headrace_engines.generator import Room
from headrace_engines.gguf_reading import read_gguf
from headrace_engines.gguf_tokens import TextTokens
from headrace_engines.openvino_generator import OpenVinoGenerator

TINY = runpy.run_path(str(Path(__file__).parents[1] / "tiny_language.py"))
PROMPT, ANSWER = "<|im_start|>user\nwho turns the mill?<|im_end|>\n" * 4, " the river, 12 times é all day long" * 2
NAMES = {
    "attn_norm": "input_layernorm",
    "ffn_norm": "post_attention_layernorm",
    "attn_q": "self_attn.q_proj",
    "attn_k": "self_attn.k_proj",
    "attn_v": "self_attn.v_proj",
    "attn_output": "self_attn.o_proj",
    "ffn_gate": "mlp.gate_proj",
    "ffn_up": "mlp.up_proj",
    "ffn_down": "mlp.down_proj",
}


def test_scores_are_those_of_transformers(tiny_gguf: Callable[..., bytes]) -> None:
    data = tiny_gguf("F16")
    tokens = TextTokens(read_gguf(data))
    before, after = tokens.encode(PROMPT, 500), tokens.encode_after(ANSWER, 500)
    with torch.no_grad():
        logits = network(len(tokens.parts))(torch.tensor([before + after])).logits[0].log_softmax(-1)
    expected = logits[torch.arange(len(before) - 1, len(before + after) - 1), torch.tensor(after)].numpy()
    generator = OpenVinoGenerator(data, Room(4 * 1024 * 1024, step_tokens=48, keeps_prefixes=False))
    try:
        found = np.array(generator.score(PROMPT, ANSWER))
    finally:
        generator.close()
    print(f"largest difference {np.abs(found - expected).max():.4f} nats, of the mean {(found - expected).mean():.5f}")
    assert np.abs(found - expected).max() < 0.01


def network(tokens: int) -> torch.nn.Module:
    """Return the tiny model in transformers, its weights rounded as the file has them."""
    from transformers import LlamaConfig, LlamaForCausalLM

    config = LlamaConfig(
        vocab_size=tokens,
        hidden_size=TINY["WIDTH"],
        intermediate_size=TINY["INNER"],
        num_hidden_layers=TINY["LAYERS"],
        num_attention_heads=TINY["HEADS"],
        num_key_value_heads=TINY["KEY_HEADS"],
        max_position_embeddings=TINY["CONTEXT"],
        rms_norm_eps=TINY["EPSILON"],
        tie_word_embeddings=True,
    )
    made: Any = LlamaForCausalLM(config)
    made.load_state_dict(dict(weights(tokens)))
    network: torch.nn.Module = made.eval()
    return network


def weights(tokens: int) -> list[tuple[str, torch.Tensor]]:
    """Return the weights by the names that transformers has for them."""
    found = []
    for name, values in TINY["tiny_weights"](0, tokens).items():
        rounded = torch.tensor(values if values.ndim == 1 else values.astype(np.float16).astype(np.float32))
        if name == "token_embd.weight":
            found += [("model.embed_tokens.weight", rounded), ("lm_head.weight", rounded)]
        elif name == "output_norm.weight":
            found.append(("model.norm.weight", rounded))
        else:
            _, layer, part, _ = name.split(".")
            found.append((f"model.layers.{layer}.{NAMES[part]}.weight", rounded))
    return found
