"""Features of whole images."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor

from mae_toolkit.models.masked_autoencoder import MaskedAutoencoder


@torch.no_grad()
def extract_pooled_features(model: MaskedAutoencoder, loader: Iterable[dict[str, Any]]) -> Tensor:
    """Extract the encoder's last map of every image, averaged over its positions.

    A class token is left out: reconstruction does not train it to represent the image.

    Args:
        model: Its data preprocessor and encoder are used, in evaluation mode.
        loader: Batches as :func:`image_collate` makes them.

    Returns:
        Features (N, C), float32 on the CPU, in the order of the loader.
    """
    was_training = model.training
    model.eval()
    features = []
    for batch in loader:
        imgs = model.data_preprocessor(batch)['imgs']
        features.append(model.encoder(imgs)[-1].float().mean((2, 3)).cpu())
    model.train(was_training)
    return torch.cat(features)
