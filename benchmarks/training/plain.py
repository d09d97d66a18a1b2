"""The loop that anybody writes: torch.optim, batches of a shuffled order, validation and the best weights kept."""

from __future__ import annotations

import copy

import torch
from headrace_data.spec import Train
from headrace_learning.training.rows import Rows
from torch import nn
from torch.nn import functional


def train(network: nn.Module, settings: Train, rows: Rows, validation: Rows) -> None:
    """Train a classifier for the epochs asked for; it ends with the weights of the best one."""
    optimizer = torch.optim.Adam(network.parameters(), lr=settings.optimizer.learning_rate)
    best, best_weights = float("inf"), copy.deepcopy(network.state_dict())
    for _ in range(settings.epochs):
        network.train()
        total = 0.0
        for places in torch.split(torch.randperm(len(rows.targets)), settings.batch_size):
            optimizer.zero_grad()
            loss = functional.cross_entropy(network(rows.inputs[places]), rows.targets[places])
            torch.autograd.backward(loss)
            optimizer.step()
            total += loss.item() * len(places)
        network.eval()
        with torch.no_grad():
            logits = network(validation.inputs)
            loss = functional.cross_entropy(logits, validation.targets)
            _accuracy = (logits.argmax(dim=1) == validation.targets).float().mean().item()
        if loss.item() < best:
            best, best_weights = loss.item(), copy.deepcopy(network.state_dict())
    network.load_state_dict(best_weights)
