"""The dry run of the validation of detectors and segmenters: what does not fit together is a sentence."""

import copy
import importlib.util
import itertools
import json
import re
import shutil
from pathlib import Path

import pytest
import torch

from mae_toolkit.apis import load_config
from mae_toolkit.apis import training as api
from mae_toolkit.engine.dry_run.coco import check_annotations, find_fault
from mae_toolkit.engine.dry_run.metrics import list_known_names
from mae_toolkit.errors import UserError
from mae_toolkit.visualization import read_scalars

pytestmark = pytest.mark.slow

ROOT = Path(__file__).resolve().parents[1]
CONFIGS = ROOT / 'configs'
TINY = ROOT / 'mae_toolkit' / 'data' / 'tiny'
META = ('img_id', 'img_path', 'ori_shape', 'img_shape', 'scale_factor')
FOLDERS = itertools.count()

for library in ('mmdet', 'mmseg'):
    if importlib.util.find_spec(library) is None:
        pytest.skip(f'{library} is not installed', allow_module_level=True)


def small(cfg, scale):
    """A config for two steps on small images."""
    for name in ('train_dataloader', 'val_dataloader'):
        cfg[name].update(num_workers=0, persistent_workers=False, batch_size=2 if name == 'train_dataloader' else 1)
    for step in cfg.val_dataloader.dataset.pipeline:
        if step.type == 'Resize':
            step.scale = scale
    cfg.test_dataloader = cfg.test_evaluator = cfg.test_cfg = None
    cfg.model.backbone.init_cfg = None
    cfg.train_cfg.update(max_iters=2, val_interval=2)
    cfg.param_scheduler = []
    cfg.default_hooks.checkpoint.interval = 2
    cfg.default_hooks.logger.interval = 1
    cfg.env_cfg = {'num_threads': 1}
    return cfg


@pytest.fixture(scope='module')
def detection():
    cfg = load_config(CONFIGS / 'detection' / 'faster-rcnn_convnextv2-a_500s_bccd.py')
    root = f'{TINY}/bccd/'
    for name in ('train_dataloader', 'val_dataloader'):
        cfg[name].dataset.data_root = root
    cfg.val_dataloader.dataset.ann_file = 'annotations/val.json'
    cfg.val_evaluator.ann_file = f'{root}annotations/val.json'
    cfg.model.test_cfg.rpn.update(nms_pre=50, max_per_img=20)
    cfg.model.test_cfg.rcnn.update(score_thr=0.0, max_per_img=10)
    return small(cfg, (96, 72))


@pytest.fixture(scope='module')
def segmentation():
    cfg = load_config(CONFIGS / 'segmentation' / 'fcn_convnextv2-a_500s_dsb2018.py')
    for name in ('train_dataloader', 'val_dataloader'):
        cfg[name].dataset.data_root = f'{TINY}/dsb2018'
    return small(cfg, (64, 64))


def refusal(cfg, folder, **changes):
    """The sentence with which a changed config is refused before its first step."""
    cfg = copy.deepcopy(cfg)
    cfg.merge_from_dict(changes)
    with pytest.raises(UserError) as caught:
        api.train(cfg, folder / str(next(FOLDERS)))
    assert not list(folder.rglob('*.pth'))
    return str(caught.value)


def failure(cfg, folder, **changes):
    """The error with which a library refuses a changed config before its first step, and the first note below it."""
    cfg = copy.deepcopy(cfg)
    cfg.merge_from_dict(changes)
    with pytest.raises((AssertionError, RuntimeError, NameError, TypeError, AttributeError, KeyError)) as caught:
        api.train(cfg, folder / str(next(FOLDERS)))
    assert not list(folder.rglob('*.pth'))
    return f'{type(caught.value).__name__}: {caught.value}', caught.value.__notes__[0]


def set_meta(cfg, *lacking):
    """The config without keys of the samples."""
    cfg = copy.deepcopy(cfg)
    cfg.val_dataloader.dataset.pipeline[-1].meta_keys = [key for key in META if key not in lacking]
    return cfg


def test_an_evaluator_of_another_task_is_refused(detection, segmentation, tmp_path):
    accuracy, coco = {'type': 'mae_toolkit.Accuracy'}, detection.val_evaluator | {'type': 'mmdet.CocoMetric'}
    wrong = copy.deepcopy(detection)
    wrong.val_evaluator = {'type': 'mmseg.IoUMetric'}
    found = refusal(wrong, tmp_path)
    assert "IoUMetric needs 'pred_sem_seg', and the FasterRCNN gives" in found and 'evaluator of the task' in found
    wrong.val_evaluator = accuracy
    assert 'Accuracy reads the scores of a Classifier, and the FasterRCNN gives' in refusal(wrong, tmp_path)
    wrong = copy.deepcopy(segmentation)
    wrong.val_evaluator = coco
    assert "CocoMetric needs 'pred_instances', and the EncoderDecoder gives" in refusal(wrong, tmp_path)


@pytest.mark.parametrize('key', ['img_id', 'ori_shape', 'scale_factor', 'img_shape'])
def test_samples_of_a_detector_that_lack_a_key_are_refused(detection, tmp_path, key):
    found = refusal(set_meta(detection, key), tmp_path)
    assert f'needs {key!r}' in found and 'name it in meta_keys' in found


def test_what_a_detectors_metric_needs_is_asked_for(detection, tmp_path):
    def outline(content):
        for annotation in content['annotations']:
            x, y, width, height = annotation['bbox']
            annotation['segmentation'] = [[x, y, x + width, y, x + width, y + height]]

    outlined = faulty(tmp_path, detection, outline)
    found = refusal(outlined, tmp_path, **{'val_evaluator.metric': ['bbox', 'segm']})
    assert 'the FasterRCNN predicts no masks' in found
    found = refusal(set_meta(detection), tmp_path, **{'val_evaluator.ann_file': None})
    assert 'has no annotations to compare with: set val_evaluator.ann_file' in found
    assert "metric_items=['mAPx']" in refusal(detection, tmp_path, **{'val_evaluator.metric_items': ['mAPx']})
    unpacked = copy.deepcopy(detection)
    del unpacked.val_dataloader.dataset.pipeline[-1]
    assert "needs 'inputs', and val_dataloader gives img_path" in refusal(unpacked, tmp_path)


def test_what_a_segmenters_metric_needs_is_asked_for(segmentation, tmp_path):
    bare = copy.deepcopy(segmentation)
    pipeline = bare.val_dataloader.dataset.pipeline
    bare.val_dataloader.dataset.pipeline = [step for step in pipeline if step.type != 'LoadAnnotations']
    found = refusal(bare, tmp_path)
    assert "IoUMetric needs 'gt_sem_seg'" in found and 'add LoadAnnotations' in found
    assert "needs 'ori_shape'" in refusal(set_meta(segmentation, 'ori_shape'), tmp_path)
    typed = refusal(segmentation, tmp_path, **{'val_evaluator.iou_metrics': ['mIou']})
    assert "iou_metrics=['mIou']; known are mIoU" in typed


def test_images_of_other_sizes_in_a_batch_are_refused(segmentation, tmp_path):
    found = copy.deepcopy(segmentation)
    names = [path.stem for path in sorted((TINY / 'dsb2018').rglob('splits/val.txt'))]
    assert names
    steps = [step for step in found.val_dataloader.dataset.pipeline if step.type != 'Resize']
    found.val_dataloader.dataset.pipeline = steps
    found.val_dataloader.batch_size = 2
    folder = tmp_path / 'set'
    shutil.copytree(TINY / 'dsb2018', folder)
    listed = (folder / 'splits' / 'val.txt').read_text().split()
    halve(folder, listed[0])
    found.val_dataloader.dataset.data_root = str(folder)
    assert 'differ in size' in refusal(found, tmp_path)


MISFITS = [
    (
        'model.neck.in_channels',
        [40, 80, 160, 321],
        r'RuntimeError: .* 321 channels',
        r'model.neck \(FPN\) fails .*, in neck.lateral_convs.3',
    ),
    ('model.neck.in_channels', [40, 80, 160], 'AssertionError', r'model.neck \(FPN\) fails as configured .*dataloader'),
    ('model.test_cfg.rpn.nms.type', 'nmss', "name 'nmss' is not defined", r'model.rpn_head \(RPNHead\) fails'),
]


@pytest.mark.parametrize(('key', 'value', 'reason', 'note'), MISFITS, ids=[str(case[1]) for case in MISFITS])
def test_parts_of_a_model_that_do_not_fit_are_named_below_the_trace(detection, tmp_path, key, value, reason, note):
    error, found = failure(detection, tmp_path, **{key: value})
    assert re.search(reason, error, re.S) and re.search(note, found)


def test_a_model_that_lacks_a_setting_is_named(segmentation, tmp_path):
    _, note = failure(segmentation, tmp_path, **{'model.test_cfg.mode': 'slide'})
    assert note.startswith('model (EncoderDecoder) fails as configured')


def halve(folder, name):
    """Cut an image and its mask to half their width."""
    from PIL import Image

    for path in folder.rglob(f'{name}.*'):
        image = Image.open(path)
        image.crop((0, 0, image.width // 2, image.height)).save(path)


@pytest.mark.parametrize(
    ('name', 'evaluator', 'sentence'),
    [
        ('coco/bbox_mAPP', {}, 'did you mean coco/bbox_mAP'),
        ('bbox_mAP', {}, 'did you mean coco/bbox_mAP'),
        ('coco/rbc_precision', {'classwise': True}, 'or coco/RBC_precision'),
    ],
)
def test_a_best_metric_of_no_detector_is_refused(detection, tmp_path, name, evaluator, sentence):
    """Even where nothing is predicted, and no metric comes out."""
    best = {'default_hooks.checkpoint.save_best': name, 'default_hooks.checkpoint.rule': 'greater'}
    best |= {f'val_evaluator.{key}': value for key, value in evaluator.items()}
    for changes in ({}, {'model.test_cfg.rcnn.score_thr': 1.1}):
        assert sentence in refusal(detection, tmp_path, **best, **changes)


def test_a_best_metric_of_a_segmenter_is_refused(segmentation, tmp_path):
    best = {'default_hooks.checkpoint.save_best': 'mIoUU', 'default_hooks.checkpoint.rule': 'greater'}
    found = refusal(segmentation, tmp_path, **best)
    assert found == "default_hooks.checkpoint.save_best='mIoUU' is not a metric of the validation; did you mean mIoU?"


@pytest.mark.parametrize('task', ['detection', 'segmentation'])
def test_a_run_is_the_same_with_and_without_the_check(task, request, tmp_path):
    cfg = copy.deepcopy(request.getfixturevalue(task))
    files = {'outfile_prefix': str(tmp_path / 'written' / 'x')} if task == 'detection' else {}
    cfg.val_evaluator.update(files)
    found = []
    for checked in (True, False):
        run = copy.deepcopy(cfg)
        if not checked:
            run.default_hooks.validation_check = None
        folder = tmp_path / str(checked)
        api.train(run, folder)
        found.append((torch.load(folder / 'iter_2.pth', weights_only=True)['state_dict'], read_scalars(folder)))
    (state, scalars), (plain, others) = found
    assert all(torch.equal(state[name], plain[name]) for name in plain)
    losses = [name for name in others if 'loss' in name or 'mAP' in name or 'mIoU' in name]
    assert losses and all(str(scalars[name]) == str(others[name]) for name in losses)


def faulty(tmp_path, cfg, change):
    """A config whose annotations of the validation are changed."""
    content = json.loads((TINY / 'bccd' / 'annotations' / 'val.json').read_text())
    change(content)
    path = tmp_path / 'val.json'
    path.write_text(json.dumps(content))
    cfg = copy.deepcopy(cfg)
    cfg.val_dataloader.dataset.ann_file = cfg.val_evaluator.ann_file = str(path)
    return cfg


def test_annotations_without_an_object_are_refused(detection, tmp_path):
    cfg = faulty(tmp_path, detection, lambda content: content.update(annotations=[]))
    assert 'have no object in any of' in refusal(cfg, tmp_path)


def test_annotations_without_iscrowd_are_of_single_objects(detection, tmp_path):
    def forget(content):
        for annotation in content['annotations']:
            del annotation['iscrowd']

    api.train(faulty(tmp_path, detection, forget), tmp_path / 'run')
    assert 'without "iscrowd" count as single objects' in next(tmp_path.glob('run/*/*.log')).read_text()


def test_annotations_that_cannot_be_evaluated_are_refused(tmp_path):
    """Also those of an image that the dry run does not read."""
    from mmdet.evaluation import CocoMetric

    content = json.loads((TINY / 'bccd' / 'annotations' / 'val.json').read_text())
    for annotation in content['annotations']:
        annotation['segmentation'] = [[0, 0, 4, 0, 4, 4]]
    content['annotations'][-1]['segmentation'] = []
    path = tmp_path / 'val.json'
    path.write_text(json.dumps(content))
    check_annotations(CocoMetric(str(path), 'bbox'))
    with pytest.raises(
        UserError, match=r"^1 of the 208 annotations of the validation have an empty 'segmentation' \(id "
    ):
        check_annotations(CocoMetric(str(path), 'segm'))


@pytest.mark.parametrize(
    ('changes', 'fault'),
    [
        ({}, ''),
        ({'segmentation': {'size': [4, 4], 'counts': [16]}}, ''),
        ({'segmentation': []}, "an empty 'segmentation'"),
        ({'segmentation': None}, "no 'segmentation'"),
        ({'segmentation': [[1, 2, 3, 4]]}, "a polygon of fewer than three points in 'segmentation'"),
        ({'segmentation': [1, 2, 3, 4, 5, 6]}, "a polygon of fewer than three points in 'segmentation'"),
        ({'bbox': None}, "no 'bbox'"),
    ],
)
def test_faults_of_annotations_are_named(changes, fault):
    polygon = [[0, 0, 4, 0, 4, 4]]
    whole = {'id': 1, 'image_id': 1, 'category_id': 1, 'bbox': [0, 0, 4, 4], 'area': 16, 'iscrowd': 0}
    assert find_fault(whole | {'segmentation': polygon} | changes, True) == fault
    assert find_fault(whole | changes, False) == (fault if 'bbox' in changes else '')


def test_names_of_metrics_are_known():
    from mmdet.evaluation import CocoMetric
    from mmseg.evaluation import IoUMetric

    coco = CocoMetric(metric=['bbox', 'segm'], classwise=True, metric_items=['mAP'])
    coco.dataset_meta = {'classes': ('cat',)}
    assert list_known_names(coco) == [
        'coco/cat_precision', 'coco/bbox_mAP', 'coco/cat_precision', 'coco/segm_mAP',
    ]  # fmt: skip
    assert list_known_names(IoUMetric(iou_metrics=['mFscore'], prefix='x')) == [
        'x/aAcc',
        'x/mFscore',
        'x/mPrecision',
        'x/mRecall',
    ]
    assert list_known_names(CocoMetric(metric='proposal_fast', proposal_nums=(5,))) == ['coco/AR@5']
