"""Phases of a training: which layers each holds, how fast the others learn, and what is kept of it."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from xfer2.model_handler.network import Network
from xfer2.training.callbacks import Callback, Record


@dataclass(frozen=True)
class Phase:
    """Epochs in which some layers are held, and where their run is kept."""

    frozen: frozenset[str]
    epochs: int
    name: str
    checkpoint_dir: str | None


@dataclass(frozen=True)
class Kept:
    """What came of a phase: epochs before it, how many of its own were kept, and of how many of these the mean was."""

    before: int
    epochs: int
    averaged: int
    interrupted: bool


class StopAfter(Callback):
    """Ends a training after some epochs."""

    def __init__(self, epochs: int) -> None:
        self.epochs = epochs

    def on_epoch_end(self, trainer: Any, record: Record) -> None:
        """Say so."""
        trainer.stop = record["epoch"] >= self.epochs


def best_of(kept: Sequence[Kept]) -> tuple[int, int]:
    """The epoch whose parameters the phases ended with, 0 for the start, and of how many epochs these are the mean."""
    best = [one for one in kept if one.epochs]
    return (best[-1].before + best[-1].epochs, best[-1].averaged) if best else (0, 0)


def held_layers(network: Network, transferred: Collection[str], groups: int) -> list[frozenset[str]]:
    """Layers to hold in each phase: all that came from the source, then from the output down a group fewer, then none."""
    clusters: list[tuple[set[str], set[str]]] = []  # layers, and parameters, that only move together
    for layer, own in _moving_layers(network, transferred):
        sharing = [cluster for cluster in clusters if cluster[1] & set(own)]
        clusters = [cluster for cluster in clusters if cluster not in sharing]
        clusters.append(({layer}.union(*(layers for layers, _ in sharing)),
                         set(own).union(*(names for _, names in sharing))))
    ends = np.linspace(len(clusters), 0, min(groups, len(clusters)) + 1).round().astype(int) if groups else [0]
    return [frozenset(layer for layers, _ in clusters[:end] for layer in layers) for end in ends]


def learning_rates(network: Network, transferred: Collection[str], rate: float, decay: float) -> dict[str, float]:
    """Multipliers of the learning rate of transferred parameters, smaller with every such layer on the way to the logits."""
    moving = dict(_moving_layers(network, transferred))
    depths = {network.graph.outputs[0].node: 0}  # of nodes: layers of `moving` behind them, on the longest way
    for node in reversed(network.graph.nodes):
        if node.name in depths:
            for edge in node.inputs:
                depths[edge.node] = max(depths.get(edge.node, 0), depths[node.name] + (node.name in moving))
    rates: dict[str, float] = {}
    for layer, own in moving.items():
        for name in own:
            rates[name] = min(rates.get(name, rate), rate * decay**depths.get(layer, 0))
    return rates


def _moving_layers(network: Network, transferred: Collection[str]) -> list[tuple[str, list[str]]]:
    """Layers with transferred parameters that training may change, from the input up, and those parameters."""
    chosen = set(transferred) & set(network.arg_params) - network.frozen_parameters
    owned = ((layer, [name for name in names if name in chosen]) for layer, names in network.layer_parameters.items())
    return [(layer, own) for layer, own in owned if own]
