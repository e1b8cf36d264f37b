"""The outputs of the blocks of an encoder, noted for the length of one forward."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from typing import Any

from torch import Tensor, nn

from mae_toolkit.evaluation.modes import evaluating
from mae_toolkit.models.encoders import Encoder


def name_layers(encoder: Encoder) -> list[str]:
    """Name the layers whose outputs :func:`list_outputs` lists: blocks, or levels of an encoder without any."""
    blocks = _list_blocks(encoder)
    return [f'block {i + 1}' for i in range(len(blocks))] or [
        f'level {i + 1}' for i in range(len(encoder.out_channels))
    ]


def list_outputs(encoder: Encoder, imgs: Tensor, make: Callable[[Tensor], Tensor]) -> list[Tensor]:
    """Encode whole images, and make something of the output of each layer at once, so that none has to be kept.

    Args:
        encoder: The encoder.
        imgs: (B, C, H, W), on its device.
        make: Gets the output of a layer (B, ...), in any order of positions and channels.

    Returns:
        What was made, for each of :func:`name_layers`.
    """
    blocks = _list_blocks(encoder)
    found: dict[int, Tensor] = {}

    def note(number: int, output: Tensor) -> None:
        found[number] = make(output)

    with evaluating(encoder), _noting(blocks, note):
        maps = encoder.encode(imgs).maps
    return [found[number] for number in range(len(blocks))] if blocks else [make(x) for x in maps]


def _list_blocks(encoder: Encoder) -> Sequence[nn.Module]:
    """List the blocks of an encoder; none where all of it is one, as the graph of a convolutional network."""
    blocks = encoder.list_blocks()
    return blocks if len(blocks) > 1 else ()


@contextmanager
def _noting(blocks: Sequence[nn.Module], note: Callable[[int, Tensor], object]) -> Iterator[None]:
    """Pass the output of each block to a function within a ``with`` block.

    Some encoders call a block, others a function of the block by :meth:`Recomputing.run`, which leaves it to the
    block's ``run_function`` if there is one. What a function returns counts where both happen.
    """
    handles = [b.register_forward_hook(partial(_note_module, note, i)) for i, b in enumerate(blocks)]
    around = {i: b for i, b in enumerate(blocks) if not hasattr(b, 'run_function')}
    for number, block in around.items():
        block.run_function = partial(_note_function, note, number)  # type: ignore[assignment]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()
        for block in around.values():
            del block.run_function


def _note_module(
    note: Callable[[int, Tensor], object], number: int, block: nn.Module, inputs: Any, output: Tensor
) -> None:
    note(number, output)


def _note_function(
    note: Callable[[int, Tensor], object], number: int, function: Callable[..., Tensor], *inputs: Any
) -> Tensor:
    output = function(*inputs)
    note(number, output)
    return output
