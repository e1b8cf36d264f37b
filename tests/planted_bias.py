"""Sets of synthetic images with and without a texture, and small models trained on them."""

import math

import numpy as np
import torch

from mae_toolkit.evaluation.reconstruction_bias import SetMeasurer
from mae_toolkit.models import MaskedAutoencoder

SIDE, UNIT = 32, 8
KINDS = ('checkers', 'discs', 'horizontal', 'vertical')


def draw_image(kind, rng, side=SIDE):
    """An image (C, H, W) of a texture over a random background, normalized."""
    y, x = np.mgrid[:side, :side] + 0.0
    phase, wave = rng.uniform(0, 2 * math.pi, 2), 2 * math.pi / 4
    if kind in ('horizontal', 'vertical'):
        pattern = np.sin(wave * (y if kind == 'horizontal' else x) + phase[0])
    elif kind == 'checkers':
        pattern = np.sign(np.sin(wave / 2 * x + phase[0]) * np.sin(wave / 2 * y + phase[1]))
    else:
        top, left = rng.uniform(0.2, 0.8, 2) * side
        pattern = 2.0 * ((y - top) ** 2 + (x - left) ** 2 < (0.3 * side) ** 2) - 1
    colors = rng.uniform(-1, 1, (3, 1, 1))
    noise = rng.normal(0, 0.05, (3, side, side))
    return (0.4 * colors + rng.uniform(0.5, 1) * pattern + noise).astype(np.float32)


def draw_images(kinds, each, seed):
    """A set of images (N, C, H, W) and the kind of each."""
    rng = np.random.default_rng(seed)
    labels = [kind for _ in range(each) for kind in kinds]
    return torch.from_numpy(np.stack([draw_image(kind, rng) for kind in labels])), labels


def train_model(kinds, steps=200, seed=0, **objective):
    """A small masked autoencoder trained on fresh images of some kinds."""
    torch.manual_seed(seed)
    target = {'type': 'PixelTarget', **objective}
    model = MaskedAutoencoder(
        encoder={'type': 'ViT', 'patch_size': UNIT, 'embed_dim': 48, 'depth': 1, 'num_heads': 4, 'img_size': SIDE},
        masking={'type': 'RandomMasking', 'ratio': 0.5},
        decoder={'type': 'TransformerDecoder', 'embed_dim': 48, 'depth': 1, 'num_heads': 4},
        objectives={'pixel': {'target': target, 'losses': [{'type': 'MaskedL2Loss'}]}},
        data_preprocessor={'type': 'mae_toolkit.ImagePreprocessor', 'mean': [127.5] * 3, 'std': [63.75] * 3},
    )
    images, _ = draw_images(kinds, 256, seed + 100)
    optimizer = torch.optim.AdamW(model.parameters(), lr=4e-3, weight_decay=0.01)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 4e-3, steps)
    for _ in range(steps):
        batch = images[torch.randint(len(images), (32,))]
        loss = model(batch, mode='loss')['loss_pixel']
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()
    return model.eval()


def measure(model, kinds, each, seed, labeled=False):
    """The errors of a model on fresh images of some kinds."""
    images, labels = draw_images(kinds, each, seed)
    measurer = SetMeasurer(model, masks=2)
    for start in range(0, len(images), 32):
        batch = images[start : start + 32]
        measurer.add(batch, range(start, start + len(batch)))
    return measurer.finish([f'{kind} {i}' for i, kind in enumerate(labels)], labels if labeled else None)
