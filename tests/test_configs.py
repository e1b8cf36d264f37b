"""The files of configs/ inherit: what two of them say alike stands in one base, and no base is far away."""

import ast
from pathlib import Path

import pytest

from mae_toolkit.apis import load_config

ROOT = Path(__file__).resolve().parents[1]
FILES = sorted([*(ROOT / 'configs').rglob('*.py'), *(ROOT / 'projects').glob('*/configs/*.py')])
BASES = [path for path in FILES if '_base_' in path.parts]
LEAVES = [path for path in FILES if '_base_' not in path.parts]


def bases_of(path):
    """The files that a config names in ``_base_``."""
    for node in ast.parse(path.read_text()).body:
        if isinstance(node, ast.Assign) and getattr(node.targets[0], 'id', None) == '_base_':
            named = ast.literal_eval(node.value)
            return [(path.parent / name).resolve() for name in ([named] if isinstance(named, str) else named)]
    return []


def depth(path):
    """How many files a config goes through at most until one inherits from none."""
    return max((1 + depth(base) for base in bases_of(path)), default=0)


@pytest.mark.parametrize('path', LEAVES, ids=lambda path: path.stem)
def test_a_config_inherits_from_at_most_one_other_and_from_bases_that_are_at_most_two_deep(path):
    configs = [base for base in bases_of(path) if base in LEAVES]
    assert len(configs) <= 1 and not any(base in LEAVES for config in configs for base in bases_of(config))
    assert max((depth(base) for base in bases_of(path) if base in BASES), default=0) <= 2
    assert depth(path) <= 3


def test_every_base_is_inherited_and_none_inherits_from_a_config():
    inherited = {base for path in FILES for base in bases_of(path)}
    assert set(BASES) <= inherited
    assert not [path for path in BASES if set(bases_of(path)) & set(LEAVES)]


def test_no_two_bases_say_the_same():
    """Comments aside: two files with the same settings are one file."""
    said = [ast.dump(ast.parse(path.read_text())) for path in BASES]
    assert len(said) == len(set(said))


@pytest.mark.parametrize(
    ('name', 'options', 'expected'),
    [
        (
            'segmentation/upernet_vit-t_500s_dsb2018.py',
            {'crop': (96, 64), 'steps': 60, 'warmup': 6},
            {
                'model.data_preprocessor.size': (96, 64),
                'model.backbone.img_size': (96, 64),
                'train_dataloader.dataset.pipeline.3.crop_size': (96, 64),
                'train_cfg.max_iters': 60,
                'train_cfg.val_interval': 30,
                'param_scheduler.0.end': 6,
                'param_scheduler.1.begin': 6,
            },
        ),
        (
            'detection/faster-rcnn_convnextv2-a_500s_bccd.py',
            {'scale': (128, 96), 'steps': 60},
            {
                'train_dataloader.dataset.pipeline.2.scale': (128, 96),
                'train_dataloader.dataset.pipeline.3.crop_size': (128, 96),
                'val_dataloader.dataset.pipeline.1.scale': (128, 96),
                'test_dataloader.dataset.pipeline.1.scale': (128, 96),
                'train_cfg.max_iters': 60,
            },
        ),
        (
            'detection/faster-rcnn_vit-quickstart_200s_tiny.py',
            {},
            {'train_cfg.max_iters': 200, 'param_scheduler.0.end': 50},
        ),
    ],
)
def test_a_setting_stands_once_and_all_places_follow(name, options, expected):
    pytest.importorskip('mmdet' if name.startswith('det') else 'mmseg', reason='not installed: pip install -e .[all]')
    cfg = load_config(ROOT / 'configs' / name, options)

    def at(key):
        value = cfg
        for part in key.split('.'):
            value = value[int(part)] if part.isdigit() else value[part]
        return value

    assert {key: at(key) for key in expected} == expected
