"""Small sets of normal and defective images, and small encoders and models for detectors of anomalies."""

import numpy as np
import torch
from PIL import Image

from mae_toolkit.apis import build_model, load_config
from test_export_folder import ENCODERS, text_of
from test_load_encoder import write_run
from tiny import OPTIONS, QUICKSTART

SMALL = {'device': 'cpu', 'smooth': 1.0}  # arguments of detectors of such images


def make_things(root):
    """A category ``bottle``, an encoder ``encoder`` and a masked autoencoder ``model`` in a folder."""
    write_category(root / 'bottle')
    write_encoder(root / 'encoder')
    write_autoencoder(root / 'model')
    return root


def make_image(seed, size=(64, 48), defect=None):
    """Stripes with a little noise; ``defect`` is a box (left, top, right, bottom) of another pattern."""
    rng = np.random.default_rng(seed)
    rows, columns = np.indices(size)
    image = 128 + 60 * np.sin(columns / 3)[..., None] * np.array([1.0, 0.7, 0.4]) + rng.normal(0, 4, (*size, 3))
    if defect:
        left, top, right, bottom = defect
        part = np.sin(rows / 1.5)[top:bottom, left:right, None]
        image[top:bottom, left:right] = 128 + 120 * part
    return image.clip(0, 255).astype(np.uint8)


def write_normal(folder, count=12, size=(64, 48), seed=0):
    """Normal images in a folder."""
    folder.mkdir(parents=True)
    for number in range(count):
        Image.fromarray(make_image(seed + number, size)).save(folder / f'{number:03}.png')
    return folder


def write_category(root, count=12, size=(64, 48), seed=0):
    """A category in the layout of MVTec AD: normal images, four good ones and four with a defect in the test."""
    write_normal(root / 'train' / 'good', count, size, seed)
    write_normal(root / 'test' / 'good', 4, size, seed + 1000)
    for folder in (root / 'test' / 'cut', root / 'ground_truth' / 'cut'):
        folder.mkdir(parents=True)
    for number in range(4):
        box = (8 + 4 * number, 12 + 6 * number, 24 + 4 * number, 28 + 6 * number)
        Image.fromarray(make_image(seed + 2000 + number, size, box)).save(root / 'test' / 'cut' / f'{number:03}.png')
        mask = np.zeros(size, np.uint8)
        mask[box[1] : box[3], box[0] : box[2]] = 255
        Image.fromarray(mask).save(root / 'ground_truth' / 'cut' / f'{number:03}_mask.png')
    return root


def write_encoder(folder, name='ConvNeXt'):
    """The run of a small encoder whose weights are random."""
    torch.manual_seed(0)
    write_run(folder, ENCODERS[name])
    return folder


def write_autoencoder(folder, **changes):
    """The run of a small masked autoencoder, untrained: 32 x 32 pixels in cells of 8."""
    torch.manual_seed(0)
    options = OPTIONS | {key.replace('__', '.'): value for key, value in changes.items()}
    cfg = load_config(QUICKSTART, options)
    model = build_model(cfg)
    folder.mkdir()
    text = text_of(cfg)
    (folder / 'config.py').write_text(text)
    torch.save(
        {'state_dict': model.state_dict(), 'meta': {'epoch': 1, 'iter': 1, 'cfg': text}}, folder / 'best_loss.pth'
    )
    return folder
