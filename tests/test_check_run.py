"""A run looks at its data before anything is built, and its evaluators count every object."""

import importlib.util
import json
import logging
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from mmengine.config import Config
from mmengine.registry import DefaultScope

from coco_sets import make_config, make_set
from mae_toolkit.config.load import check_config
from mae_toolkit.datasets.checks import Finding
from mae_toolkit.engine.data_check import FILE, check_run_data
from mae_toolkit.engine.runner import Runner
from mae_toolkit.errors import UserError

pytest.importorskip('mmdet', reason='MMDetection is not installed: pip install -e .[det]')
SPLITS = ('train', 'val', 'test')


def spoil(content):
    content['annotations'][4]['bbox'] = None


def doubt(content):
    content['annotations'][4]['area'] = 0


@pytest.fixture
def runner(tmp_path):
    """A runner of which nothing is built."""
    made = Runner.__new__(Runner)
    made._work_dir = made._log_dir = str(tmp_path / 'run')
    made.logger, made._hooks = logging.getLogger('test_check_run'), []
    return made


def config_of(folder, changes):
    """A config with a set per split, each changed by its function."""
    cfg = {}
    for split, change in changes.items():
        (folder / split).mkdir()
        cfg |= make_set(folder / split, change, split)
    return Config(cfg)


def test_training_is_refused_before_anything_is_built(tmp_path, runner):
    runner.cfg = config_of(tmp_path, {'train': None, 'val': spoil})
    with pytest.raises(
        UserError, match=r'^val data .*set.json: 1 of the 24 annotations has no "bbox" \(2.jpg, annotatio'
    ):
        runner.train()
    report = json.loads((tmp_path / 'run' / FILE).read_text())
    assert [split['split'] for split in report['splits']] == ['train', 'val']


def test_testing_looks_at_its_split_alone(tmp_path, runner):
    runner.cfg = config_of(tmp_path, {'train': spoil, 'test': spoil})
    with pytest.raises(UserError, match='^test data [^\n]*$'):
        runner.test()


def test_a_fault_of_the_test_data_is_no_obstacle_to_training(tmp_path, caplog):
    cfg = config_of(tmp_path, {'train': doubt, 'test': spoil})
    logger = logging.getLogger('test_check_run')
    with caplog.at_level(logging.INFO):
        check_run_data(cfg, SPLITS, tmp_path, logger, tolerated=('test',))
    warnings = [record.getMessage() for record in caplog.records if record.levelno == logging.WARNING]
    assert [text.partition(' data ')[0] for text in warnings] == ['train', 'test']
    assert any('annotations of class' in record.getMessage() for record in caplog.records)


@pytest.mark.parametrize('off', [None, False])
def test_the_look_can_be_switched_off(tmp_path, off):
    cfg = config_of(tmp_path, {'train': spoil})
    cfg.data_check = off
    check_run_data(cfg, SPLITS, tmp_path / 'run', logging.getLogger('test_check_run'))
    assert not (tmp_path / 'run').exists()


def test_a_config_may_set_limits_and_nothing_else():
    whole = {'model': {}, 'train_dataloader': {}, 'train_cfg': {}, 'optim_wrapper': {}}
    check_config(Config(whole | {'data_check': {'max_left_out': 0.2}}))
    with pytest.raises(UserError, match="data_check has no argument 'max_left'; did you mean max_left_out"):
        check_config(Config(whole | {'data_check': {'max_left': 0.2}}))


def from_zero(content):
    for i, item in enumerate(content['annotations']):
        item['id'] = i


def without_crowds(content):
    for item in content['annotations']:
        del item['iscrowd']


def text_ids(content):
    for item in content['annotations']:
        item['id'] = f'a{item["id"]}'


@pytest.mark.parametrize('change', [None, from_zero, without_crowds, text_ids])
def test_perfect_predictions_get_the_best_value(tmp_path, runner, change):
    cfg = make_set(tmp_path, change, 'val')
    content = json.loads((tmp_path / 'set.json').read_text())
    with DefaultScope.overwrite_default_scope('mmdet'):
        evaluator = runner.build_evaluator(cfg['val_evaluator'])
    evaluator.dataset_meta = {'classes': ('red', 'blue')}
    for image in content['images']:
        items = [item for item in content['annotations'] if item['image_id'] == image['id']]
        boxes = torch.tensor([item['bbox'] for item in items], dtype=torch.float32)
        boxes[:, 2:] += boxes[:, :2]
        labels = torch.tensor([item['category_id'] - 1 for item in items])
        found = {'bboxes': boxes, 'scores': torch.ones(len(boxes)), 'labels': labels}
        evaluator.process([{'pred_instances': found, 'img_id': image['id'], 'ori_shape': (64, 96)}])
    assert evaluator.evaluate(len(content['images']))['coco/bbox_mAP'] == 1


def test_evaluators_of_other_kinds_are_left_as_they_are(runner):
    metric = SimpleNamespace(_coco_api=None)
    evaluator = runner.build_evaluator([])
    evaluator.metrics = [metric, SimpleNamespace()]
    assert vars(metric) == {'_coco_api': None}


@pytest.mark.parametrize('change', [None, spoil])
def test_the_tool_shows_the_same_without_training(tmp_path, monkeypatch, capsys, change):
    path = Path(__file__).parents[1] / 'tools' / 'check_data.py'
    spec = importlib.util.spec_from_file_location('check_data_tool', path)
    tool = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(tool)
    cfg = make_set(tmp_path, change) | make_config(tmp_path, 'val')
    monkeypatch.setattr(tool, 'load_config', lambda path, options: Config(cfg))
    monkeypatch.setattr(
        sys, 'argv', ['check_data.py', 'c.py', '--json', str(tmp_path / 'found.json'), '--split', 'train']
    )
    if change is None:
        tool.main()
    else:
        with pytest.raises(SystemExit) as ended:
            tool.main()
        assert ended.value.code == 2
    shown = capsys.readouterr().out
    assert ('error: train data' in shown) is (change is not None) and 'red' in shown
    (split,) = json.loads((tmp_path / 'found.json').read_text())['splits']
    assert split['split'] == 'train' and split['annotations'] == 24


@pytest.mark.parametrize(
    ('reason', 'total', 'sentence'),
    [
        ('images are missing', 8, '1 of the 8 images is missing.'),
        ('images cannot be read', 8, '1 of the 8 images cannot be read.'),
        ('images are listed more than once and weigh more', 0, '1 image is listed more than once and weighs more.'),
        ('hidden folders hold images, which are left out', 0, '1 hidden folder holds images, which are left out.'),
        (
            'annotations have a mask that does not touch their box',
            9,
            '1 of the 9 annotations has a mask that does',
        ),
        ('a sentence without a verb', 0, '1 a sentence'),
    ],
)
def test_a_single_fault_is_in_the_singular(reason, total, sentence):
    assert str(Finding(reason, 1, total)).startswith(sentence)
    assert reason in str(Finding(reason, 2, total))
