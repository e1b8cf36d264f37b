"""What differs between the config that a checkpoint holds and the one that it is used with."""

import copy

import pytest
import torch
from mmengine.config import Config

from launching import ROOT
from mae_toolkit.config import difference as config_difference
from mae_toolkit.config.difference import compare_for_evaluation, compare_for_resuming, warn_of_differences
from mae_toolkit.config.text import MOST_CHARACTERS, UNKNOWN, read_config_text, to_plain
from mae_toolkit.engine import classes as classes_module

pytestmark = pytest.mark.slow

SHIPPED = [
    'pretrain/quickstart.py',
    'detection/mask-rcnn_convnextv2-t_1x_coco.py',
    'segmentation/fcn_convnextv2-a_500s_dsb2018.py',
    'classification/fcmae_ft_convnextv2-a_30e_sign-digits.py',
]
SEGMENTER, DETECTOR = SHIPPED[2], SHIPPED[1]


def shipped(name):
    return Config.fromfile(ROOT / 'configs' / name)


@pytest.mark.parametrize('name', SHIPPED)
def test_a_config_is_read_back_from_its_text_and_differs_in_nothing_from_itself(name):
    cfg = shipped(name)
    saved, given = read_config_text(cfg.pretty_text), to_plain(cfg)
    assert saved == given and len(saved) > 5
    for found in (*(compare_for_evaluation(saved, given, split) for split in ('test', 'val')),):
        assert not found
    assert not compare_for_resuming(saved, given)


@pytest.mark.parametrize(
    'text',
    [
        'x = ' + '-' * 500_000 + '1',
        'x = ' + '(' * 100_000,
        'x = ' + '1 + ' * 200_000 + '1',
        'x = ' + 'a.' * 200_000 + 'b',
        'x = ' + '9' * 100_000,
        'x = "' + 'a' * MOST_CHARACTERS + '"',
        'x = (',
        '\0',
        None,
        5,
        {'model': 1},
        b'x = 1',
    ],
    ids=lambda text: str(text)[:12],
)
def test_a_text_that_is_no_config_is_passed_over(text):
    assert read_config_text(text) is None
    assert warn_of_differences('a.pth', {'meta': {'cfg': text}}, Config({'model': {}})) == []


def test_nothing_in_a_text_is_executed(tmp_path):
    marker = tmp_path / 'marker'
    calls = [f'open({str(marker)!r}, "w")', f'dict(a=open({str(marker)!r}, "w"))', f'[open({str(marker)!r}, "w")]']
    text = '\n'.join(
        [*calls, *(f'x{i} = {call}' for i, call in enumerate(calls)), f'{{**{calls[0]}}}', 'import os', 'y = 1'] + calls
    )
    found = read_config_text(text)
    assert not marker.exists()
    assert found == {'x0': UNKNOWN, 'x1': {'a': UNKNOWN}, 'x2': [UNKNOWN], 'y': 1}


def test_values_are_read_as_mmengine_writes_them():
    values = {'a': (1, -2.5, 'x'), 'b': [None, True], 'c': {'d e': {'f': []}}, 'g': float('inf'), 'h': dict, 'i': {}}
    values |= {'j': torch.nn.Linear, 'k': {'l': ({'m': 1}, (2, 3))}}
    found = read_config_text(Config(values).pretty_text)
    assert found == to_plain(Config(values))
    assert found['j'] == 'torch.nn.modules.linear.Linear' and found['a'] == [1, -2.5, 'x']
    assert read_config_text('a = float("nan")\nb = a.b\nc = dict(**d)\n') == {'a': UNKNOWN, 'b': 'a.b', 'c': UNKNOWN}


def changed(name, key, value):
    """Plain values of a shipped config, and those with another value at a dotted key; DELETE takes it away."""
    cfg = shipped(name)
    other = copy.deepcopy(cfg)
    if value == 'DELETE':
        path, last = key.rsplit('.', 1)
        node = other
        for part in path.split('.'):
            node = node[int(part)] if part.isdigit() else node[part]
        del node[int(last) if last.isdigit() else last]
    else:
        other.merge_from_dict({key: value})
    return read_config_text(cfg.pretty_text), to_plain(other)


SAID = [
    (SEGMENTER, 'model.decode_head.channels', 32, 'model.decode_head.channels was'),
    (SEGMENTER, 'model.decode_head.num_classes', 7, 'model.decode_head.num_classes was'),
    (SEGMENTER, 'model.test_cfg.mode', 'slide', "model.test_cfg.mode was 'whole' and is 'slide'"),
    (SEGMENTER, 'model.data_preprocessor.mean', [0.0, 0.0, 0.0], 'and is [0.0, 0.0, 0.0]'),
    (SEGMENTER, 'model.data_preprocessor.std', [1.0, 1.0, 1.0], 'model.data_preprocessor.std was'),
    (SEGMENTER, 'model.data_preprocessor.bgr_to_rgb', False, 'bgr_to_rgb was True and is False'),
    (SEGMENTER, 'model.backbone.type', 'mae_toolkit.ViT', "type was 'mae_toolkit.ConvNeXt' and is 'mae_toolkit.ViT'"),
    (SEGMENTER, 'model.decode_head.threshold', 0.3, 'model.decode_head.threshold was'),
    (SEGMENTER, 'test_dataloader.dataset.pipeline.1.scale', (9, 9), 'dataset.pipeline.1.scale was'),
    (SEGMENTER, 'test_dataloader.dataset.pipeline.1', 'DELETE', 'dataset.pipeline was [LoadImageFromFile, '),
    (SEGMENTER, 'test_dataloader.dataset.reduce_zero_label', True, 'reduce_zero_label was not set and is True'),
    (DETECTOR, 'model.test_cfg.rcnn.score_thr', 0.3, 'model.test_cfg.rcnn.score_thr was 0.05 and is 0.3'),
    (DETECTOR, 'model.roi_head.bbox_head.num_classes', 3, 'num_classes was 80 and is 3'),
    (DETECTOR, 'model.backbone.out_indices', (0, 1), 'model.backbone.out_indices was'),
    (DETECTOR, 'test_dataloader.dataset.pipeline.1.scale', (64, 64), 'pipeline.1.scale was'),
]
NOT_SAID = [
    (SEGMENTER, 'work_dir', 'else/where'),
    (SEGMENTER, 'launcher', 'pytorch'),
    (SEGMENTER, 'test_dataloader.batch_size', 7),
    (SEGMENTER, 'test_dataloader.num_workers', 7),
    (SEGMENTER, 'test_dataloader.dataset.data_root', 'else/where'),
    (SEGMENTER, 'test_dataloader.dataset.ann_file', 'other.txt'),
    (SEGMENTER, 'test_dataloader.dataset.metainfo.classes', ('a', 'b')),
    (SEGMENTER, 'train_cfg.max_iters', 7),
    (SEGMENTER, 'optim_wrapper.optimizer.lr', 7.0),
    (SEGMENTER, 'default_hooks.logger.interval', 7),
    (SEGMENTER, 'randomness.seed', 7),
    (SEGMENTER, 'model.backbone.init_cfg', None),
    (SEGMENTER, 'model.backbone.drop_path_rate', 0.7),
    (SEGMENTER, 'model.backbone.with_cp', True),
    (SEGMENTER, 'train_dataloader.dataset.pipeline.2.scale', (9, 9)),
    (SEGMENTER, 'test_dataloader.dataset.pipeline.0.backend_args', {'backend': 'local'}),
    (DETECTOR, 'model.train_cfg.rpn.pos_weight', 7),
    (DETECTOR, 'model.backbone.frozen_stages', 3),
    (DETECTOR, 'custom_hooks', []),
]


@pytest.mark.parametrize(('name', 'key', 'value', 'words'), SAID, ids=[key for _, key, *_ in SAID])
def test_what_decides_the_results_is_said_with_both_values(name, key, value, words):
    (found,) = compare_for_evaluation(*changed(name, key, value))
    assert words in str(found)
    (back,) = compare_for_evaluation(*reversed(changed(name, key, value)))
    assert (back.saved, back.given) == (found.given, found.saved)


@pytest.mark.parametrize(('name', 'key', 'value'), NOT_SAID, ids=[key for _, key, _ in NOT_SAID])
def test_what_does_not_decide_them_is_not_said(name, key, value):
    saved, given = changed(name, key, value)
    assert saved != given
    assert not compare_for_evaluation(saved, given)


@pytest.mark.parametrize(
    ('key', 'value', 'count'),
    [
        ('optim_wrapper.optimizer.lr', 7.0, 1),
        ('optim_wrapper.optimizer.weight_decay', 7.0, 1),
        ('train_dataloader.batch_size', 7, 1),
        ('train_dataloader.dataset.pipeline.3.crop_size', (9, 9), 1),
        ('model.backbone.drop_path_rate', 0.7, 1),
        ('randomness.seed', 7, 1),
        ('train_cfg.max_iters', 1000, 0),
        ('param_scheduler.1.end', 1000, 0),
        ('param_scheduler.1.eta_min', 7.0, 1),
        ('train_dataloader.num_workers', 7, 0),
        ('train_dataloader.dataset.data_root', 'else/where', 0),
        ('test_dataloader.dataset.pipeline.1.scale', (9, 9), 0),
        ('default_hooks.checkpoint.interval', 7, 0),
        ('work_dir', 'else/where', 0),
    ],
)
def test_what_changes_a_resumed_training_is_said(key, value, count):
    assert [one.key for one in compare_for_resuming(*changed(SEGMENTER, key, value))] == [key] * count


def test_joined_datasets_other_splits_and_unknown_values():
    def one(scale, **more):
        return {'type': 'D', 'pipeline': [{'type': 'Resize', 'scale': scale}], **more}

    def cfg(dataset, split='test', **model):
        return {'model': {'type': 'M', **model}, f'{split}_dataloader': {'dataset': dataset}}

    joined = {'type': 'ConcatDataset', 'datasets': [one(1), one(2)]}
    repeated = {'type': 'RepeatDataset', 'dataset': one(1)}
    assert not compare_for_evaluation(cfg(joined), cfg(joined))
    (found,) = compare_for_evaluation(cfg(joined), cfg({**joined, 'datasets': [one(1), one(3)]}))
    assert str(found) == 'test_dataloader.dataset.datasets.1.pipeline.0.scale was 2 and is 3'
    assert not compare_for_evaluation(cfg(one(1)), cfg(repeated))
    assert not compare_for_evaluation(cfg(one(1), 'val'), cfg(one(1), 'test'))
    assert len(compare_for_evaluation(cfg(one(1), 'val'), cfg(one(2), 'test'))) == 1
    assert not compare_for_evaluation(cfg(one(UNKNOWN)), cfg(one(2))) and not compare_for_evaluation({}, {})
    assert not compare_for_evaluation(cfg(one(1), a=None, b=[]), cfg(one(1), c={}))  # as if they were not set
    assert not compare_for_evaluation(cfg(one(float('nan'))), cfg(one(float('nan'))))


@pytest.fixture
def said(monkeypatch):
    """Warnings, in order."""
    found = []
    for module in (config_difference, classes_module):
        monkeypatch.setattr(module, 'print_log', lambda text, _, level: found.append(text) if level >= 30 else None)
    return found


def test_a_warning_has_ten_differences_and_the_count_of_the_others(said):
    saved = {'type': 'M', **{f'a{i}': 'x' * 100 for i in range(25)}}
    text = Config({'model': saved | {'a0': 'y\x1b[31m', 'b c': 1}}).pretty_text
    warn_of_differences('a.pth', {'meta': {'cfg': text}}, Config({'model': {'type': 'M'}}))
    assert len(said) == 1 and said[0].count(' was ') == 11 and 'and 16 more' in said[0]  # one in the sentence
    assert '\x1b' not in said[0] and len(said[0]) < 1500
