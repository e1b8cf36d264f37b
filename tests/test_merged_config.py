"""The text of a complete config: nothing inherited, settings with reasons, and expressions that still follow them."""

from pathlib import Path

import pytest

from mae_toolkit.apis import load_config
from mae_toolkit.config.checks import list_runner_keys
from mae_toolkit.config.knobs import Knob
from mae_toolkit.planning.merged_config import complete_config

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


def write(folder, knobs=None, change=None, options=None):
    """Write the template as a complete config; return its path and text."""
    (folder / 'base.py').write_text(BASE)
    (folder / 'template.py').write_text(TEMPLATE)
    text = complete_config(folder / 'template.py', knobs or {}, 'By a test', change, options)
    path = folder / 'elsewhere' / 'config.py'
    path.parent.mkdir()
    path.write_text(text)
    return path, text


def plain(cfg):
    """What a run reads of a config; variables of bases are not written."""
    return {key: value for key, value in cfg.to_dict().items() if key in list_runner_keys()}


def test_a_complete_config_says_the_same_as_its_template_with_the_settings(tmp_path):
    path, text = write(tmp_path, {'size': Knob(160, 'the median'), 'deep': Knob(True, 'many images')})
    assert plain(load_config(path)) == plain(load_config(tmp_path / 'template.py', {'size': 160, 'deep': True}))
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


@pytest.mark.parametrize('long', [list(range(1, 60)), {'a b': 1}, {'x': [{'y': ('one',)}] * 9}])
def test_values_of_all_kinds_come_back(tmp_path, long):
    def change(cfg):
        cfg.model.data_preprocessor.std = long
        return cfg

    path, text = write(tmp_path, change=change)
    assert load_config(path).to_dict()['model']['data_preprocessor']['std'] == long
    assert max(map(len, text.splitlines())) <= 120


def test_the_templates_of_this_repository_can_be_written(tmp_path):
    root = Path(__file__).resolve().parents[1] / 'configs'
    for template in [path for path in root.glob('*/custom_*.py') if 'faster' in path.name]:
        text = complete_config(template, {'size': Knob(96)}, 'By a test')
        path = tmp_path / template.name
        path.write_text(text)
        assert plain(load_config(path)) == plain(load_config(template, {'size': 96}))
