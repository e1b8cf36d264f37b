"""The text of a config: nothing inherited, settings with their reasons, and expressions that still follow them."""

import re

import pytest

from mae_toolkit.apis import load_config
from mae_toolkit.config.knobs import Knob
from mae_toolkit.planning.config_text import split_options, write_config
from test_configs import ROOT

FOLDERS = ('pretrain/custom/*.py', 'continue/*.py', '*/custom_*.py')
TEMPLATES = sorted(path for pattern in FOLDERS for path in (ROOT / 'configs').glob(pattern))
BASE = """
model = dict(type='MaskedAutoencoder', encoder=dict(type='ViT', depth=2), data_preprocessor=dict(std=[2, 3]))
log_level = 'INFO'
train_cfg = dict(type='EpochTrainLoop', max_epochs=1)
optim_wrapper = dict(optimizer=dict(type='AdamW', lr=0.1))
"""
TEMPLATE = """# A template
_base_ = './base.py'

# Sizes
size = 224  # pixels
deep = False  # more blocks
names = ['a', 'b']

half = size // 2  # of a side
model = dict(
    encoder=dict(img_size=(size, half), depth=4 if deep else 2, drop_path_rate=0.1),
    decoder=dict(embed_dim=len(names), depth=1) if deep else None,
)
train_dataloader = dict(batch_size=2, dataset=dict(type='ImageDataset', pipeline=[dict(type='Resize', size=size)]))
"""


def write(folder, knobs=None, change=None, options=None, base=BASE, template=TEMPLATE):
    """Write the template as one text; return its path and the text."""
    (folder / 'base.py').write_text(base)
    (folder / 'template.py').write_text(template)
    wanted, others = split_options(folder / 'template.py', options or {})
    text = write_config(folder / 'template.py', (knobs or {}) | wanted, 'By a test', others, change)
    path = folder / 'elsewhere' / 'config.py'
    path.parent.mkdir(exist_ok=True)
    path.write_text(text)
    return path, text


def test_the_text_says_the_same_as_its_template_with_the_settings(tmp_path):
    path, text = write(tmp_path, {'size': Knob(160, 'the median'), 'deep': Knob(True, 'many images')})
    assert load_config(path).to_dict() == load_config(tmp_path / 'template.py', {'size': 160, 'deep': True}).to_dict()
    assert '_base_' not in text and text.startswith('# By a test\n\n# Sizes\nsize = 160  # the median\n')
    assert 'half = size // 2  # of a side' in text and 'size=size' in text
    assert 'depth=4 if deep else 2, img_size=(size, half), drop_path_rate=0.1' in text


def test_what_is_derived_from_a_setting_follows_it_in_the_written_config(tmp_path):
    path, _ = write(tmp_path)
    cfg = load_config(path, {'size': 64, 'deep': True})
    assert cfg.model.encoder.img_size == (64, 32) and cfg.model.encoder.depth == 4
    assert cfg.model.data_preprocessor.std == [2, 3] and cfg.log_level == 'INFO'
    assert cfg.train_dataloader.dataset.pipeline[0].size == 64


def test_what_a_change_replaces_is_written_as_it_is_and_the_rest_still_follows(tmp_path):
    def change(cfg):
        cfg.model.encoder.depth = 7
        return cfg

    path, text = write(tmp_path, change=change, options={'train_dataloader.batch_size': 3, 'size': 48})
    cfg = load_config(path)
    assert cfg.model.encoder.depth == 7 and cfg.model.encoder.img_size == (48, 24)
    assert cfg.train_dataloader.batch_size == 3 and 'size = 48  # --cfg-options' in text
    assert load_config(path, {'size': 32}).train_dataloader.dataset.pipeline[0].size == 32


@pytest.mark.parametrize(
    'long', [list(range(1, 60)), {'a b': 1}, {'a b': list(range(60))}, {'class': 1}, {'x': [{'y': ('one',)}] * 9}]
)
def test_values_of_all_kinds_come_back(tmp_path, long):
    def change(cfg):
        cfg.model.data_preprocessor.std = long
        return cfg

    path, text = write(tmp_path, change=change)
    assert load_config(path).to_dict()['model']['data_preprocessor']['std'] == long
    assert max(map(len, text.splitlines())) <= 120


def test_what_is_derived_from_a_changed_value_is_written_as_it_was(tmp_path):
    template = TEMPLATE + 'few = dict(train_dataloader, num_workers=0)  # by themselves\nsame = dict(few)\n'
    path, text = write(tmp_path, options={'train_dataloader.batch_size': 3}, template=template)
    cfg = load_config(path)
    assert cfg.train_dataloader.batch_size == 3 and cfg.few.batch_size == cfg.same.batch_size == 2
    assert 'same = dict(few)\n' in text and 'by themselves' not in text
    assert 'few = dict(train_dataloader, num_workers=0)  # by themselves\n' in write(tmp_path, template=template)[1]


def test_dicts_that_two_files_assign_are_one_in_which_expressions_of_both_follow(tmp_path):
    base = (
        'size = 8\nwide = 2  # of the base\none = 1\nblock = dict(p=one)\n'
        'table = dict(a=size, b=dict(c=2, d=size), e=[wide], f=dict(g=size), h=dict(i=wide, t=0), j=one, k=block,\n'
        '             n=dict(o=size, q=0))\n'
    )
    child = (
        'large = False\nother = dict(o=10, r=1)\n'
        'table = dict(b=dict(c=3, f=_base_.size), e=[2, 2], f=dict(_delete_=True, s=_base_.wide), j=1, k=dict(p=1),\n'
        '             h=dict(i=large) if large else None, n=other)\n'
    )
    knobs = {'size': Knob(10, 'ten')}
    path, text = write(tmp_path, knobs, base=BASE + base, template=TEMPLATE + child)
    merged = ['a=size', 'b=dict(c=3, d=size, f=size)', 'e=[2, 2]', 'f=dict(s=wide)', 'h={}', 'j=1', 'k=dict(p=1)']
    merged = 'table = dict(\n    ' + ',\n    '.join([*merged, 'n=dict(o=10, q=0, r=1)']) + ',\n)\n'
    assert merged.format(None) in text
    assert 'size = 10  # ten' in text and 'wide = 2  # of the base' in text
    assert load_config(path).to_dict() == load_config(tmp_path / 'template.py', {'size': 10}).to_dict()
    _, text = write(tmp_path, knobs | {'large': Knob(True)}, base=BASE + base, template=TEMPLATE + child)
    assert merged.format('dict(i=large, t=0)') in text


@pytest.mark.parametrize('path', TEMPLATES, ids=lambda path: f'{path.parent.name}-{path.stem}')
def test_a_written_template_is_the_template_and_follows_its_settings(path, tmp_path):
    if path.parent.name in ('detection', 'segmentation'):
        pytest.importorskip('mmdet' if path.parent.name == 'detection' else 'mmseg', reason='pip install -e .[all]')
    text = write_config(path, {'size': Knob(96, 'small')}, 'By a test')
    (tmp_path / 'config.py').write_text(text)
    for options in ({}, {'size': 64, 'batch_size': 2}):
        expected = load_config(path, {'size': 96} | options)
        assert load_config(tmp_path / 'config.py', options).to_dict() == expected.to_dict()
    assert not re.search(r'\b_base_\b', text) and 'size = 96  # small' in text
