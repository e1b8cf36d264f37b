"""Numbers of two records of one config agree bit for bit, and a change of what is computed is reported."""

import importlib.util
import json
from dataclasses import replace

import pytest
import torch
from mmengine.config import Config

from mae_toolkit.benchmarks import numbers
from mae_toolkit.benchmarks.numbers import compare_numbers, find_crop, record_numbers
from mae_toolkit.errors import UserError
from tiny import QUICKSTART, ROOT

CONFIG = """
model = dict(
    type='MaskedAutoencoder',
    data_preprocessor=dict(type='ImagePreprocessor'),
    encoder=dict(
        type='ViT', arch='vit_tiny_patch16_224', img_size=32, depth=1, embed_dim=24, num_heads=2,
        init_cfg=dict(type='Pretrained', checkpoint='nowhere.pth'),
    ),
    masking=dict(type='RandomMasking', ratio=0.5),
    decoder=dict(type='TransformerDecoder', embed_dim=16, depth=1, num_heads=2),
    objectives=dict(pixel=dict(target=dict(type='PixelTarget'), losses=[dict(type='MaskedL2Loss')])),
)
train_dataloader = dict(dataset=dict(pipeline=[dict(type='RandomResizedCrop', size=32)]))
"""


@pytest.fixture
def cfg():
    return Config.fromstring(CONFIG, '.py')


@pytest.fixture
def record(cfg):
    return record_numbers(cfg)


def test_two_records_agree_and_leave_the_process_as_it_was(cfg, record):
    threads, before = torch.get_num_threads(), cfg.pretty_text
    assert record_numbers(cfg) == record and record.parameters > 10
    assert torch.get_num_threads() == threads and cfg.pretty_text == before
    assert json.loads(json.dumps(record.to_dict())) == record.to_dict()
    assert compare_numbers({'a': record.to_dict()}, {'a': record.to_dict()}) == []


@pytest.mark.parametrize(
    ('change', 'reported'),
    [
        ({'model.masking.ratio': 0.75}, ['losses', 'gradients', 'norm']),
        ({'model.decoder.depth': 2}, ['losses', 'gradients', 'norm', 'parameters']),
        ({'model.objectives.pixel.losses.0.type': 'MaskedL1Loss'}, ['losses', 'gradients', 'norm']),
        ({'model.encoder.final_norm': False}, ['losses', 'gradients', 'norm', 'parameters']),
    ],
    ids=['mask', 'decoder', 'loss', 'encoder'],
)
def test_a_change_is_reported(cfg, record, change, reported):
    cfg.merge_from_dict(change)
    sentences = compare_numbers({'a': record.to_dict()}, {'a': record_numbers(cfg).to_dict()})
    assert [sentence.split()[1] for sentence in sentences] == reported


def test_the_last_bit_of_a_weight_is_seen(cfg, record, monkeypatch):
    build_model = numbers.build_model

    def changed(given):
        model = build_model(given)
        with torch.no_grad():
            weight = next(model.encoder.parameters()).flatten()[:1]
            weight.copy_(torch.nextafter(weight, weight + 1))
        return model

    monkeypatch.setattr(numbers, 'build_model', changed)
    (first, *_) = compare_numbers({'a': record.to_dict()}, {'a': record_numbers(cfg).to_dict()})
    assert first.startswith('a: ')


def test_configs_of_one_record_alone_are_told(record):
    other = replace(record, norm=(1.5).hex())
    sentences = compare_numbers({'a': record.to_dict(), 'b': {}}, {'a': other.to_dict(), 'c': {}})
    assert sentences[:2] == ['b: only in one of the records.', 'c: only in one of the records.']
    (norm,) = sentences[2:]
    assert f'a: norm {float.fromhex(record.norm)} before, 1.5 after.' == norm


def test_the_size_of_images_is_that_of_the_last_crop(cfg):
    assert find_crop(cfg) == 32
    assert find_crop(Config({'model': {}})) == 224


SMALL = """
_base_ = ['{base}']
model = dict(encoder=dict(img_size=32, embed_dim=24, depth=1, num_heads=2), decoder=dict(embed_dim=16, depth=1))
"""


def test_the_tool_compares_with_its_record(tmp_path, capsys):
    spec = importlib.util.spec_from_file_location('record_numbers_tool', ROOT / 'tools' / 'record_numbers.py')
    tool = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(tool)
    (tmp_path / 'small.py').write_text(SMALL.format(base=QUICKSTART))
    config, out = str(tmp_path / 'small.py'), tmp_path / 'before.json'
    tool.main([config, '--out', str(out)])
    with pytest.raises(SystemExit, match='0'):
        tool.main([config, '--against', str(out)])
    assert 'The numbers of 1 configs agree bit for bit.' in capsys.readouterr().out
    before = json.loads(out.read_text())
    before[config]['parameters'] -= 1
    out.write_text(json.dumps(before))
    with pytest.raises(SystemExit, match='1'):
        tool.main([config, '--against', str(out)])
    assert f'parameters {before[config]["parameters"]} before' in capsys.readouterr().out
    out.write_text('[')
    with pytest.raises(UserError, match='before.json is no record'):
        tool.main([config, '--against', str(out)])
