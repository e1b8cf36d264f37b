"""A small labeled set, made on the fly, and what is said of it."""

import numpy as np
import pytest
from mmengine.config import Config
from PIL import Image

from mae_toolkit.datasets.checks import DataReport, labeled
from mae_toolkit.errors import UserError

NAMES = ('ant', 'bee', 'cow')


def make_set(root):
    """Write four images of each of three classes in train, two in val, and lists of them; all pixels differ."""
    generator = np.random.default_rng(0)
    for split, count in (('train', 4), ('val', 2)):
        lines = []
        for name in NAMES:
            (root / split / name).mkdir(parents=True)
            for i in range(count):
                pixels = generator.integers(256, size=(6, 8, 3), dtype=np.uint8)
                Image.fromarray(pixels).save(root / split / name / f'{i}.png')
                lines.append(f'{split}/{name}/{i}.png {name}\n')
        (root / f'{split}.txt').write_text(''.join(lines))
    return root


def make_config(root, as_list=False, val=None, **train):
    """A config of both splits, as folders or as lists; arguments are those of training."""

    def loader(split, arguments):
        where = dict(ann_file=f'{split}.txt') if as_list else dict(split=split)
        return dict(dataset=dict(type='LabeledDataset', data_root=str(root), **where) | arguments)

    return Config(dict(train_dataloader=loader('train', train), val_dataloader=loader('val', val or {})))


def look(cfg, split='train'):
    """Report on one split."""
    dataset = cfg[f'{split}_dataloader'].dataset
    assert labeled.can_check(dataset, cfg)
    return labeled.check_dataset(dataset, split, cfg)


def said(cfg, split='train', refused=False):
    """What is refused or doubtful in one split."""
    report = DataReport([look(cfg, split)])
    if refused:
        with pytest.raises(UserError) as caught:
            report.raise_if_fatal()
        return str(caught.value)
    report.raise_if_fatal()
    return ' '.join(report.warnings())
