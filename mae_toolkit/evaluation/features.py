"""Features of whole images."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

import torch
from torch import Tensor

from mae_toolkit.models.masked_autoencoder import MaskedAutoencoder


def extract_pooled_features(model: MaskedAutoencoder, loader: Iterable[dict[str, Any]]) -> Tensor:
    """Extract the encoder's last map of every image, averaged over its positions.

    A class token is left out: reconstruction does not train it to represent the image.

    Args:
        model: Its data preprocessor and encoder are used, in evaluation mode.
        loader: Batches as :func:`image_collate` makes them.

    Returns:
        Features (N, C), float32 on the CPU, in the order of the loader.
    """
    return torch.cat([x.mean((2, 3)).cpu() for x in _list_last_maps(model, loader)])


def extract_last_maps(model: MaskedAutoencoder, loader: Iterable[dict[str, Any]]) -> Tensor:
    """Extract the encoder's last map of every image; see :func:`extract_pooled_features`.

    Returns:
        (N, C, h, w) float32 on the CPU.
    """
    return torch.cat([x.cpu() for x in _list_last_maps(model, loader)])


def _list_last_maps(model: MaskedAutoencoder, loader: Iterable[dict[str, Any]]) -> Iterator[Tensor]:
    was_training = model.training
    model.eval()
    for batch in loader:
        imgs = model.data_preprocessor(batch)['imgs']
        with torch.no_grad():
            x = model.encoder(imgs)[-1].float()
        yield x
    model.train(was_training)
