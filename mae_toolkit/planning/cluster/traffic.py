"""What data-parallel GPUs send to each other, and how long that takes."""

from __future__ import annotations

import math
from dataclasses import dataclass

BUCKET = 25 * 2**20  # bytes of gradients that DDP sends together
LATENCY = 10e-6  # seconds of a hop between GPUs


@dataclass(frozen=True)
class Network:
    """How GPUs are connected.

    Attributes:
        gpus_per_node: GPUs of a node.
        link: Bytes per second of a GPU to the others of its node, in one direction.
        between: Bytes per second of a node to the others, in one direction, all its adapters together.
    """

    gpus_per_node: int
    link: float
    between: float

    def bandwidth(self, gpus: int) -> float:
        """Return the bytes per second at which a ring through these GPUs moves."""
        return self.link if gpus <= self.gpus_per_node else min(self.link, self.between)


def all_reduce_bytes(nbytes: int, gpus: int) -> float:
    """Return the bytes that each GPU sends to sum up a buffer over all: 2 (N - 1) / N of it."""
    return 2 * (gpus - 1) / gpus * nbytes


def gather_bytes(nbytes: int, gpus: int) -> float:
    """Return the bytes that each GPU sends to gather a buffer of which each holds a part, or to scatter its sum."""
    return (gpus - 1) / gpus * nbytes


def step_traffic(engine: str, gradients: int, gathered: int, gpus: int) -> float:
    """Return the bytes that each GPU sends in a step.

    DDP sums up all gradients. FSDP2 gathers the weights before the forward and before the backward pass, in the type in
    which it computes, and scatters the sums of the gradients.

    Args:
        engine: ``'ddp'`` or ``'fsdp2'``.
        gradients: Bytes of the gradients.
        gathered: Bytes of the weights as they are gathered.
        gpus: Number of GPUs.
    """
    if engine == 'ddp':
        return all_reduce_bytes(gradients, gpus)
    return 2 * gather_bytes(gathered, gpus) + gather_bytes(gradients, gpus)


def traffic_seconds(sent: float, messages: int, gpus: int, network: Network) -> float:
    """Return how long it takes to send bytes in messages, each of which passes a tree of the GPUs twice."""
    if gpus == 1:
        return 0.0
    return sent / network.bandwidth(gpus) + messages * 2 * math.ceil(math.log2(gpus)) * LATENCY


def exposed_seconds(seconds: float, hidden_behind: float, messages: int) -> float:
    """Return the part of the traffic that no computation hides; the last message has none to hide behind."""
    return max(seconds - hidden_behind, seconds / max(messages, 1) if seconds else 0.0)
