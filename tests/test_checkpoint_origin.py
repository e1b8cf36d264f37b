"""What a checkpoint says of its training, its config and its classes, against what it is used with."""

import copy

import pytest
import torch
from mmengine.config import Config

from launching import ROOT
from mae_toolkit.apis import load_predictor, model_from_checkpoint
from mae_toolkit.apis.train import test as evaluate
from mae_toolkit.apis.train import train
from mae_toolkit.engine import classes as classes_module
from mae_toolkit.engine import config_difference
from mae_toolkit.engine.checkpoint import load
from mae_toolkit.engine.classes import check_classes, read_classes
from mae_toolkit.engine.config_difference import compare_for_evaluation, compare_for_resuming, warn_of_differences
from mae_toolkit.engine.config_text import MOST_CHARACTERS, UNKNOWN, read_config_text, to_plain
from mae_toolkit.errors import UserError
from test_classification_run import config, folder  # noqa: F401

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


CLASSES = ['cat', 'dog', 'owl']


@pytest.mark.parametrize(
    ('there', 'words'),
    [
        (['dog', 'cat', 'owl'], "the same names in another order, class 0 is 'dog' there and 'cat' here"),
        (['cat', 'dog', 'emu'], "class 2 is 'emu' there and 'owl' here"),
        (['cat', 'dog'], "class 2, 'owl', is only here"),
        (['cat', 'dog', 'owl', 'yak'], "class 3, 'yak', is only there"),
        (['dog', 'owl', 'cat', 'yak'], "class 0 is 'dog' there"),
        ([f'c{i}' for i in range(1000)], 'on 1000 classes (c0, c1, c2, c3, c4, …)'),
        (['cat\x1b[31m', 'dog', 'owl'], r'cat\x1b[31m'),
        ([0, 1, 2], "class 0 is '0' there and 'cat' here"),
    ],
)
def test_other_classes_are_refused_with_both_lists_and_the_first_difference(there, words):
    with pytest.raises(UserError) as told:
        check_classes('a.pth', {'meta': {'dataset_meta': {'classes': there}}}, CLASSES)
    sentence = str(told.value)
    assert words in sentence and 'the config has 3 (cat, dog, owl)' in sentence and '\x1b' not in sentence
    assert len(sentence) < 600


@pytest.mark.parametrize(
    ('there', 'here'),
    [
        (['Cat', 'DOG', 'owl'], CLASSES),
        (['cat ', ' dog', 'o wl'], CLASSES),
        (['cafe\N{COMBINING ACUTE ACCENT}', 'b'], ['caf\N{LATIN SMALL LETTER E WITH ACUTE}', 'b']),
    ],
)
def test_names_that_differ_in_case_blanks_or_unicode_form_are_taken_for_the_same_with_a_warning(said, there, here):
    assert check_classes('a.pth', {'meta': {'dataset_meta': {'classes': there}}}, here) == there
    assert len(said) == 1 and 'differ in upper and lower case, blanks or their Unicode form alone' in said[0]


@pytest.mark.parametrize(
    'checkpoint',
    [
        {},
        {'meta': None},
        {'meta': {}},
        {'meta': {'dataset_meta': 5}},
        {'meta': {'dataset_meta': {'classes': 'cat'}}},
        {'meta': {'dataset_meta': {'classes': []}}},
        {'meta': {'dataset_meta': {'classes': [None, []]}}},
        {'meta': {'dataset_meta': {'classes': torch.zeros(3)}}},
    ],
    ids=str,
)
def test_a_checkpoint_without_names_of_classes_is_taken(said, checkpoint):
    assert read_classes(checkpoint) is None and check_classes('a.pth', checkpoint, CLASSES) is None and not said


def test_equal_names_as_list_or_tuple_and_of_older_versions_are_taken(said):
    for meta in (
        {'dataset_meta': {'classes': tuple(CLASSES)}},
        {'dataset_meta': {'CLASSES': CLASSES}},
        {'CLASSES': CLASSES},
    ):
        for here in (CLASSES, tuple(CLASSES), None, ()):
            assert check_classes('a.pth', {'meta': meta}, here) == CLASSES
    assert not said


def test_test_resume_and_predict_look_at_what_the_checkpoint_says(folder, said):  # noqa: F811
    cfg = config(folder, epochs=1)
    train(cfg, folder / 'run')
    assert not said
    path = folder / 'run' / 'epoch_1.pth'
    cfg = config(folder, epochs=2)
    evaluate(cfg, str(path), folder / 'test')
    load_predictor(cfg, str(path))
    assert not said

    cfg.val_dataloader.dataset.pipeline[0].size = 20
    evaluate(cfg, str(path), folder / 'test2')
    load_predictor(cfg, str(path))
    assert len(said) == 2 and said[0] == said[1]
    assert f'{path} was trained with other options' in said[0]
    assert 'val_dataloader.dataset.pipeline.0.size was 16 and is 20. Give the same --cfg-options' in said[0]

    said.clear()
    cfg.optim_wrapper.optimizer.lr = 0.5
    train(cfg, folder / 'run', resume='auto')
    assert len(said) == 1 and 'optim_wrapper.optimizer.lr was 0.01 and is 0.5. Learning rate, weight decay' in said[0]

    said.clear()
    cfg.model.num_classes, cfg.model.encoder.depth = 2, 1  # said before it is refused by a shape
    with pytest.raises(UserError, match='does not fit the model'):
        load_predictor(cfg, str(path))
    assert 'model.num_classes was 3 and is 2' in said[0] and 'model.encoder.depth was 2 and is 1' in said[0]


def test_other_classes_are_refused_before_anything_is_tested_or_resumed(folder, said):  # noqa: F811
    cfg = config(folder, epochs=1)
    train(cfg, folder / 'run')
    path = folder / 'run' / 'epoch_1.pth'
    cfg.val_dataloader.dataset.classes = ['dark', 'bright', 'middling']
    with pytest.raises(
        UserError, match=r"the dataset has 3 \(dark, .*another order, class 0 is 'bright' there and 'dark'"
    ):
        evaluate(cfg, str(path), folder / 'test')
    cfg = config(folder, epochs=2)
    cfg.train_dataloader.dataset.classes = ['dark', 'bright', 'middling']
    with pytest.raises(UserError, match='in another order'):
        train(cfg, folder / 'run', resume='auto')
    assert not (folder / 'run' / 'epoch_2.pth').exists() and not said


def test_weights_that_a_training_begins_with_may_be_of_another_config(folder, said):  # noqa: F811
    train(config(folder, epochs=1), folder / 'run')
    cfg = config(folder, epochs=1, lr=0.5)
    cfg.load_from = str(folder / 'run' / 'epoch_1.pth')
    cfg.train_dataloader.dataset.classes = ['dark', 'bright', 'middling']
    train(cfg, folder / 'other')
    assert not said
    train(cfg, folder / 'third', resume='auto')  # there is nothing to resume
    assert not said


def test_a_reconstruction_compares_the_model_alone(tmp_path, said):
    cfg = shipped('pretrain/quickstart.py')
    cfg.model.encoder |= {'depth': 1, 'embed_dim': 24, 'num_heads': 2, 'img_size': 32}
    from mae_toolkit.apis import build_model

    state = build_model(cfg).state_dict()
    torch.save({'state_dict': state, 'meta': {'cfg': cfg.pretty_text}}, tmp_path / 'a.pth')
    model_from_checkpoint(cfg, str(tmp_path / 'a.pth'))
    cfg.val_dataloader.dataset.pipeline[0].size = 20
    model_from_checkpoint(cfg, str(tmp_path / 'a.pth'))
    assert not said
    cfg.model.masking.ratio = 0.5
    model_from_checkpoint(cfg, str(tmp_path / 'a.pth'))
    assert len(said) == 1 and 'model.masking.ratio was 0.75 and is 0.5' in said[0]
    assert load(tmp_path / 'a.pth')['meta']['cfg']
