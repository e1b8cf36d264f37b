"""Configs that cache their text."""

import copy

import pytest
from mmengine.config import Config

from engine_toys import make_runner
from mae_toolkit.engine.config_text import CachedTextConfig


@pytest.fixture
def formatted(monkeypatch):
    """The texts that yapf was given."""
    texts = []

    def format_code(text, **_):
        texts.append(text)
        return f'# {text}', True

    monkeypatch.setattr('yapf.yapflib.yapf_api.FormatCode', format_code)
    return texts


def test_a_config_is_formatted_once_until_a_value_changes(formatted):
    cfg = Config({'model': {'type': 'ViT', 'sizes': (1, 2)}, 'lr': 1})
    cached = CachedTextConfig.from_config(cfg)
    assert cfg.pretty_text == cached.pretty_text == cached.pretty_text == copy.deepcopy(cached).dump()
    assert len(formatted) == 2
    cached.model.sizes = (3,)
    assert '3' in cached.pretty_text and len(formatted) == 3
    assert set(cached) == {'model', 'lr'}


def test_the_config_in_the_checkpoints_of_a_run_is_formatted_once(tmp_path, formatted):
    runner = make_runner(tmp_path, epochs=3, cfg=Config({'lr': 1}))
    runner.train()
    assert len(list(tmp_path.glob('epoch_*.pth'))) == 3 and formatted == ['lr=1']
