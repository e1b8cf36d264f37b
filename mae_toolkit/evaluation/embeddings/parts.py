"""Encode a batch on a CPU in parts, whose threads need not wait for each other."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

import torch
from torch import Tensor

from mae_toolkit.evaluation.modes import evaluating
from mae_toolkit.models.encoders import Encoder
from mae_toolkit.models.features import Features

AT_ONCE = 4 * 224**2  # pixels of a part
T = TypeVar('T')


def encode_in_parts(encoder: Encoder, imgs: Tensor, then: Callable[[Features], T]) -> list[T]:
    """Encode images, and do something with the features of each part of them.

    On a CPU, each thread that torch may use encodes parts of its own, of a few images. Threads that share one operator
    after the other wait for each other after each of them, which takes long where other programs need the cores; here
    they wait only at the end. Elsewhere, and where images of a batch depend on each other, the batch is one part.

    Args:
        encoder: The encoder.
        imgs: (B, C, H, W), on its device.
        then: Is called with the features of each part, in a thread of its own.

    Returns:
        What ``then`` has returned, in the order of the images.
    """
    threads = torch.get_num_threads()
    parts = imgs.split(_count_at_once(encoder, imgs, threads))

    def encode(part: Tensor) -> T:
        with torch.no_grad():  # holds for this thread alone
            return then(encoder.encode(part))

    with evaluating(encoder):
        if threads == 1 or len(parts) == 1:
            return [encode(part) for part in parts]
        try:
            with ThreadPoolExecutor(min(threads, len(parts)), initializer=torch.set_num_threads, initargs=(1,)) as pool:
                return list(pool.map(encode, parts))
        finally:
            torch.set_num_threads(threads)  # libraries have one number for all threads, too


def join_features(parts: Sequence[Features]) -> Features:
    """Put the features of parts of a batch together."""
    if len(parts) == 1:
        return parts[0]
    maps = tuple(torch.cat(of_level) for of_level in zip(*(part.maps for part in parts), strict=True))
    prefixes = tuple(
        None if any(tokens is None for tokens in of_level) else torch.cat([x for x in of_level if x is not None])
        for of_level in zip(*(part.prefixes for part in parts), strict=True)
    )
    return Features(maps, prefixes)


def _count_at_once(encoder: Encoder, imgs: Tensor, threads: int) -> int:
    """Choose how many images of a batch (B, C, H, W) are a part."""
    depends_on_batch = getattr(encoder, 'grn_over_batch', False)
    depends_on_thread = torch.is_autocast_enabled('cpu')
    if imgs.device.type != 'cpu' or depends_on_batch or depends_on_thread:
        return len(imgs)
    return max(1, min(AT_ONCE // imgs[0, 0].numel(), -(-len(imgs) // threads)))
