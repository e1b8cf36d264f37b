"""A small set for segmentation, made on the fly, and what is said of it."""

from pathlib import Path

import numpy as np
from mmengine.config import Config
from PIL import Image

from mae_toolkit.datasets.checks import DataReport, semantic
from mae_toolkit.errors import UserError

CLASSES = ('gray', 'red', 'blue')
COLORS = [[90, 90, 90], [200, 40, 40], [40, 40, 200]]
SIZE = (24, 32)


def label_of(number):
    """A mask (24, 32) of the three classes, another for each number."""
    label = np.zeros(SIZE, np.uint8)
    label[4:14, 3:13] = 1
    label[12:22, 12:24] = 2
    return np.roll(label, number, 1)


def make_set(root):
    """Six images with masks, four in ``train.txt`` and two in ``val.txt``."""
    for folder in ('images', 'labels'):
        (root / folder).mkdir(parents=True)
    for number in range(6):
        save_image(root, number)
        Image.fromarray(label_of(number)).save(root / 'labels' / f'n{number}.png')
    (root / 'train.txt').write_text('n0\nn1\nn2\nn3\n')
    (root / 'val.txt').write_text('n4\nn5\n')
    return root


def save_image(root, number, orientation=1, size=SIZE):
    """Write an image with an EXIF orientation."""
    exif = Image.Exif()
    exif[274] = orientation
    pixels = np.random.default_rng(number).integers(0, 40, (*size, 3), dtype=np.uint8)
    if size == SIZE:
        pixels += np.uint8(COLORS)[label_of(number)]
    Image.fromarray(pixels).save(root / 'images' / f'n{number}.jpg', exif=exif.tobytes())


def for_all(root, change, numbers=range(6)):
    """Replace the masks of all images, or some, by what a function makes of their labels."""
    for number in numbers:
        change(label_of(number)).save(root / 'labels' / f'n{number}.png')


def make_config(root, **dataset):
    """A config of the set; arguments are those of all datasets."""

    def loader(split):
        pipeline = [dict(type='LoadImageFromFile'), dict(type='LoadAnnotations'), dict(type='PackSegInputs')]
        inner = dict(
            type='BaseSegDataset',
            data_root=str(root),
            ann_file=f'{split}.txt',
            data_prefix=dict(img_path='images', seg_map_path='labels'),
            metainfo=dict(classes=CLASSES, palette=COLORS),
            pipeline=pipeline,
        )
        return dict(dataset=inner | dataset)

    return Config(
        dict(
            default_scope='mmseg',
            model=dict(decode_head=dict(num_classes=3)),
            train_dataloader=loader('train'),
            val_dataloader=loader('val'),
        )
    )


def look(cfg, split='train'):
    """Report on one split."""
    (dataset,) = semantic.find_leaf_configs(cfg[f'{split}_dataloader'].dataset)
    assert semantic.can_check(dataset, cfg)
    return semantic.check_dataset(dataset, split, cfg)


def refusal(cfg, split='train'):
    """What is refused in one split, in words; empty if nothing is."""
    try:
        DataReport([look(cfg, split)]).raise_if_fatal()
    except UserError as error:
        return str(error)
    return ''


def warning(cfg, split='train'):
    """What is doubtful in one split, where nothing is refused."""
    report = DataReport([look(cfg, split)])
    report.raise_if_fatal()
    return ' '.join(report.warnings())


def write(path, content):
    """Write bytes or text to a file."""
    Path(path).write_bytes(content if isinstance(content, bytes) else content.encode())
