"""Configs whose text is laid out once."""

import copy

import pytest
from mmengine.config import Config

from engine_toys import make_runner
from mae_toolkit.engine.config_text import OnceLaidOutConfig


@pytest.fixture
def laid_out(monkeypatch):
    """The texts that yapf was given."""
    texts = []

    def lay_out(text, **_):
        texts.append(text)
        return f'# {text}', True

    monkeypatch.setattr('yapf.yapflib.yapf_api.FormatCode', lay_out)
    return texts


def test_a_config_is_laid_out_once_until_a_value_changes(laid_out):
    cfg = Config({'model': {'type': 'ViT', 'sizes': (1, 2)}, 'lr': 1})
    once = OnceLaidOutConfig.from_config(cfg)
    assert cfg.pretty_text == once.pretty_text == once.pretty_text == copy.deepcopy(once).dump()
    assert len(laid_out) == 2
    once.model.sizes = (3,)
    assert '3' in once.pretty_text and len(laid_out) == 3
    assert set(once) == {'model', 'lr'}


def test_checkpoints_of_a_run_hold_a_config_that_was_laid_out_once(tmp_path, laid_out):
    runner = make_runner(tmp_path, epochs=3, cfg=Config({'lr': 1}))
    runner.train()
    assert len(list(tmp_path.glob('epoch_*.pth'))) == 3 and laid_out == ['lr=1']
