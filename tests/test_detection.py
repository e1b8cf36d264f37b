"""Detection configs: each fits its encoder, names the published numbers, and trains by our tools."""

import json
import re
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from mmengine.config import Config
from PIL import Image

from launching import ROOT
from mae_toolkit.apis import load_config
from mae_toolkit.apis import training as api
from mae_toolkit.datasets.checks import check_data
from mae_toolkit.engine.hooks.detection import check_evaluator, check_heads, report_zeros
from mae_toolkit.errors import UserError
from mae_toolkit.visualization import read_scalars
from warm import run_python

pytest.importorskip('mmdet', reason='MMDetection is not installed: pip install -e .[det]')

pytestmark = pytest.mark.filterwarnings('ignore:.*DetLocalVisualizer')
CONFIGS = sorted((ROOT / 'configs' / 'detection').glob('*.py'))
NAME = re.compile(r'[a-z-]+_[a-z0-9-]+_[a-z0-9-]+_[a-z0-9]+')
# Base rate, layer decay and grouping, weight decay, drop path, batch, epochs or steps, and where the rate is lowered.
PUBLISHED = {
    'mask-rcnn_convnextv2-b_lsj-3x_coco': (1e-4, 0.95, 'group', 0.05, 0.4, 32, 36, [27, 33]),
    'mask-rcnn_convnext-b_3x_coco': (2e-4, 0.65, 'group', 0.05, 0.5, 16, 36, [27, 33]),
    'mask-rcnn_resnet-50_1x_coco': (2.5e-4, 0.6, None, 0.05, None, 16, 12, [8, 11]),
    'mask-rcnn_vit-b_lsj-100e_coco': (1e-4, 0.7, None, 0.1, 0.1, 64, 184375, [163889, 177546]),
}


def tools(name, *arguments):
    return run_python(f'tools/{name}.py', *arguments)


def detector(cfg):
    """A model without memory for its weights."""
    from mmdet.registry import MODELS

    cfg.model.backbone.pop('init_cfg', None)
    with torch.device('meta'):
        return MODELS.build(cfg.model)


@pytest.mark.slow
@pytest.mark.parametrize('path', CONFIGS, ids=lambda path: path.stem)
def test_a_config_fits_its_encoder(path):
    assert NAME.fullmatch(path.stem) or path.stem.startswith('custom_')
    cfg = load_config(path)
    channels = cfg.model.neck.in_channels
    model = detector(cfg)
    assert list(model.backbone.out_channels) == (channels if isinstance(channels, list) else [channels])
    strides = list(model.backbone.out_strides)
    if 'scales' in cfg.model.neck:  # of one map
        strides = [int(strides[0] / scale) for scale in cfg.model.neck.scales]
    elif cfg.model.neck.type.endswith('SimplePyramid'):
        stride = strides[0] / cfg.model.neck.get('scale_factor', 1)
        strides = [int(stride / scale) for scale in (4, 2, 1, 0.5)]
    if cfg.model.type == 'RetinaNet':
        assert cfg.model.bbox_head.anchor_generator.strides[: len(strides)] == strides
    else:
        assert cfg.model.rpn_head.anchor_generator.strides[: len(strides)] == strides
        assert cfg.model.roi_head.bbox_roi_extractor.featmap_strides == strides


@pytest.mark.parametrize('name', PUBLISHED)
def test_a_recipe_has_the_published_numbers(name):
    cfg = load_config(ROOT / 'configs' / 'detection' / f'{name}.py')
    wrapper, rule = cfg.optim_wrapper, cfg.optim_wrapper.paramwise_cfg
    steps = cfg.train_cfg.get('max_epochs') or cfg.train_cfg.max_iters
    found = (wrapper.optimizer.lr, rule.decay_rate, rule.get('grouping') if 'convnext' in name else None)
    found += (wrapper.optimizer.weight_decay, cfg.model.backbone.get('drop_path_rate'))
    found += (cfg.auto_scale_lr.base_batch_size, steps, list(cfg.param_scheduler[1].milestones))
    assert found == PUBLISHED[name]
    assert wrapper.optimizer.type == 'AdamW' and 'end' not in cfg.param_scheduler[1]


def changed(path, folder, **options):
    """A config of the set's tiny version, for two small steps."""
    name = path.stem.rsplit('_', 1)[1]
    root = f'mae_toolkit/data/tiny/{name}/'
    options = {'data': f"dict(data_root='{root}')"} | options
    lines = [f"_base_ = '{path}'", f"metric = dict(ann_file='{root}annotations/val.json')"]
    lines += [f'{key} = {value}' for key, value in options.items()]
    lines += [
        f"held_out = dict(data_root='{root}', ann_file='annotations/val.json')",
        'train_dataloader = dict(batch_size=2, num_workers=0, persistent_workers=False, dataset=data)',
        'val_dataloader = dict(num_workers=0, dataset=held_out)',
        'test_dataloader = dict(num_workers=0, dataset=held_out)',
        'val_evaluator = test_evaluator = metric',
        'train_cfg = dict(max_iters=2, val_interval=2)',
        'param_scheduler = []',
        'default_hooks = dict(checkpoint=dict(interval=1, max_keep_ckpts=2), logger=dict(interval=1))',
        'env_cfg = dict(num_threads=1)',
    ]
    config = folder / f'{path.stem}.py'
    config.write_text('\n'.join(lines))
    return config


FIRST = ROOT / 'configs' / 'detection' / 'faster-rcnn_convnextv2-a_500s_bccd.py'
SMALL = [path for path in CONFIGS if path.stem.rsplit('_', 1)[1] in ('bccd', 'dsb2018')]


@pytest.mark.slow
@pytest.mark.parametrize('path', SMALL, ids=lambda path: path.stem)
def test_a_small_config_trains_and_is_tested(path, tmp_path, monkeypatch):
    monkeypatch.chdir(ROOT)
    few = {'model': 'dict(test_cfg=dict(rcnn=dict(max_per_img=20)))'} if 'rcnn' in path.stem else {}  # masks are slow
    cfg = load_config(changed(path, tmp_path, **few))
    api.train(cfg, tmp_path / 'run')
    numbers = api.test(cfg, str(tmp_path / 'run' / 'iter_2.pth'), tmp_path / 'test')
    kinds = ('bbox', 'segm') if 'dsb2018' in path.stem else ('bbox',)
    assert {f'coco/{kind}_mAP' for kind in kinds} <= set(numbers)


@pytest.mark.process
def test_the_tools_train_resume_and_test_a_detector(tmp_path):
    config, work_dir = changed(FIRST, tmp_path), tmp_path / 'run'
    done = tools('train', config, '--work-dir', work_dir)
    assert done.returncode == 0, done.stderr
    assert 'loss' in done.stderr and 'bbox_mAP' in done.stderr and (work_dir / 'loss.png').is_file()
    (work_dir / 'iter_2.pth').unlink()
    done = tools('train', config, '--work-dir', work_dir, '--resume')
    assert done.returncode == 0 and (work_dir / 'iter_2.pth').is_file(), done.stderr
    out = tmp_path / 'numbers.json'
    trained = (work_dir / config.name).read_text()
    done = tools('test', config, work_dir / 'iter_2.pth', '--work-dir', work_dir, '--out', out)
    assert done.returncode == 0 and 'coco/bbox_mAP' in json.loads(out.read_text()), done.stderr
    assert (work_dir / config.name).read_text() == trained  # that of the test is beside its log
    assert 'OneDL' not in done.stdout + done.stderr and 'faster_coco_eval' not in done.stderr


@pytest.mark.slow
def test_from_pretrained_weights_it_takes_a_config_of_15_lines(tmp_path, monkeypatch):
    """The one of docs/detection.md, as far as the checkpoint that is not there."""
    monkeypatch.chdir(ROOT)
    text = re.search(r'```python\n(.*?)```', (ROOT / 'docs' / 'detection.md').read_text(), re.S)[1]
    assert len(text.splitlines()) <= 15
    config = tmp_path / 'faster-rcnn_mine_bccd.py'
    config.write_text(text.replace('{{ fileDirname }}', f'{ROOT}/configs/detection'))
    (tmp_path / 'changed').mkdir()
    cfg = load_config(changed(config, tmp_path / 'changed'))
    with pytest.raises(UserError, match=f'no checkpoint {cfg.model.backbone.init_cfg.checkpoint}'):
        api.train(cfg, tmp_path / 'run')


@pytest.mark.slow
def test_own_images_take_a_config_of_15_lines(tmp_path, monkeypatch):
    """The second one of docs/detection.md, on two images."""
    from mmdet.registry import DATASETS

    monkeypatch.chdir(tmp_path)
    text = re.findall(r'```python\n(_base_.*?)```', (ROOT / 'docs' / 'detection.md').read_text(), re.S)[1]
    assert len(text.splitlines()) <= 15
    Path('mine.py').write_text(text.replace('{{ fileDirname }}', f'{ROOT}/configs/detection'))
    Path('data/mine/images').mkdir(parents=True)
    categories = [{'id': 1, 'name': 'bolt'}, {'id': 2, 'name': 'nut'}]
    for split in ('train', 'val'):
        Image.new('RGB', (64, 48)).save(f'data/mine/images/{split}.png')
        image = {'id': 1, 'file_name': f'{split}.png', 'width': 64, 'height': 48}
        box = {'id': 1, 'image_id': 1, 'category_id': 2, 'bbox': [5, 6, 20, 20], 'area': 400, 'iscrowd': 0}
        content = {'images': [image], 'annotations': [box], 'categories': categories}
        Path(f'data/mine/{split}.json').write_text(json.dumps(content))
    cfg = load_config('mine.py')
    assert cfg.test_evaluator.ann_file == cfg.val_evaluator.ann_file == 'data/mine/val.json'
    model = detector(cfg)
    for loader in (cfg.train_dataloader, cfg.val_dataloader, cfg.test_dataloader):
        check_heads(SimpleNamespace(dataset=DATASETS.build(loader.dataset)), model)
    report = check_data(cfg)
    assert [split.split for split in report.splits] == ['train', 'val', 'test'] and not report.errors()


def broken(tmp_path, change):
    """A config of a dataset of blood cells whose annotations are changed."""
    source = ROOT / 'mae_toolkit' / 'data' / 'tiny' / 'bccd'
    content = json.loads((source / 'annotations' / 'train.json').read_text())
    change(content)
    file = tmp_path / 'train.json'
    file.write_text(json.dumps(content))
    return load_config(FIRST).train_dataloader.dataset | {'data_root': str(source), 'ann_file': str(file)}


def built(dataset):
    from mmdet.registry import DATASETS

    return SimpleNamespace(dataset=DATASETS.build(dataset))


def refuse(dataset):
    """Look at a dataset as a run does."""
    check_data({'default_scope': 'mmdet', 'train_dataloader': {'dataset': dataset}}).raise_if_fatal()


def rename(content):
    content['categories'][0]['name'] = 'cell'


def lose(content):
    for image in content['images'][:2]:
        image['file_name'] = f'lost_{image["id"]}.jpg'


def add(content):
    content['categories'].append({'id': 9, 'name': 'extra'})
    content['annotations'][0]['category_id'] = 9


def number(content):
    content['images'][1]['id'] = content['images'][0]['id']


def move(content):
    for annotation in content['annotations']:
        annotation['bbox'][0] += 10000


def turn(content):
    content['categories'].reverse()


@pytest.mark.parametrize(
    ('change', 'sentence'),
    [
        (rename, r"1 of the 3 classes of the config is not in the file \('RBC', where the file has 'cell', 'WBC'"),
        (add, r'1 of the 920 annotations is of classes that are not in the config \(extra\)'),
        (turn, r'order of the classes in the file is Platelets, WBC, RBC, that of the config RBC, WBC, Platelets'),
        (number, r'1 of the 64 images has the id of another'),
        (lose, r'2 of the 64 images are missing \(.*lost_\d+\.jpg; .*lost_\d+\.jpg\): set data_root'),
        (move, r'920 of the 920 annotations cannot be used, more than data_check.max_left_out=0.5 allows'),
    ],
)
def test_annotations_that_do_not_fit_are_refused(tmp_path, change, sentence):
    with pytest.raises(UserError, match=f'^train data .*train.json: .*{sentence}'):
        refuse({'type': 'RepeatDataset', 'times': 2, 'dataset': broken(tmp_path, change)})


def test_annotations_that_fit_are_not(tmp_path):
    refuse(broken(tmp_path, lambda content: None))


def test_all_datasets_that_are_joined_are_checked(tmp_path):
    (tmp_path / 'other').mkdir()
    whole, lacking = broken(tmp_path, lambda content: None), broken(tmp_path / 'other', lose)
    with pytest.raises(UserError, match='2 of the 64 images'):
        refuse({'type': 'ConcatDataset', 'datasets': [whole, lacking]})


def test_an_evaluator_of_other_images_is_refused(tmp_path):
    from mmdet.registry import METRICS

    loader = built(broken(tmp_path, lambda content: None))
    for split, sentence in (('train', None), ('val', r'64 of the 64 images of .*train.json are not those of the ann')):
        file = ROOT / 'mae_toolkit' / 'data' / 'tiny' / 'bccd' / 'annotations' / f'{split}.json'
        metric = METRICS.build({'type': 'CocoMetric', 'ann_file': str(file)})
        arguments = loader, SimpleNamespace(metrics=[metric, SimpleNamespace()])
        if sentence is None:
            check_evaluator(*arguments)
            continue
        with pytest.raises(UserError, match=sentence):
            check_evaluator(*arguments)


@pytest.mark.slow
@pytest.mark.parametrize('classes', [2, 4])
def test_a_head_of_other_classes_is_refused(tmp_path, classes):
    loader = built(broken(tmp_path, lambda content: None))
    cfg = load_config(FIRST)
    check_heads(loader, detector(cfg))
    cfg.model.roi_head.bbox_head.num_classes = classes
    with pytest.raises(UserError, match=rf'roi_head.bbox_head has num_classes={classes}, but .* has 3 classes \(RBC, '):
        check_heads(loader, detector(cfg))


@pytest.mark.slow
def test_without_a_prediction_the_metrics_are_zero(tmp_path, monkeypatch):
    monkeypatch.chdir(ROOT)
    cfg = load_config(changed(FIRST, tmp_path, model='dict(test_cfg=dict(rcnn=dict(score_thr=1.1)))'))
    api.train(cfg, tmp_path / 'run')
    (log,) = (tmp_path / 'run').glob('*/*.log')
    assert 'Not a single object was predicted' in log.read_text()
    assert read_scalars(tmp_path / 'run')['val/coco/bbox_mAP'] == {2: 0.0}
    some = {'coco/bbox_mAP': 0.5}
    report_zeros(None, some, None)
    assert some == {'coco/bbox_mAP': 0.5}


def test_a_scope_that_is_not_installed_is_refused(tmp_path):
    config = tmp_path / 'config.py'
    config.write_text("default_scope = 'mmnothing'\n")
    with pytest.raises(UserError, match=r"default_scope='mmnothing', which is not installed"):
        load_config(config)


@pytest.mark.parametrize(
    ('option', 'sentence'),
    [
        ({'train_dataloader.dataset.type': 'CocoDatset'}, 'did you mean CocoDataset'),
        ({'val_evaluator.metrik': 'bbox'}, "has no argument 'metrik'"),
        ({'default_hooks.progress.type': 'mae_toolkit.ProgresHook'}, 'did you mean mae_toolkit.ProgressHook'),
    ],
)
def test_mistakes_in_mmdetections_scope_are_told(option, sentence):
    with pytest.raises(UserError, match=sentence):
        load_config(FIRST, option)


def test_mixed_precision_of_detectors_is_float16_and_wants_a_gpu(monkeypatch):
    cfg = Config({'default_scope': 'mmdet', 'optim_wrapper': {'optimizer': {}}})
    monkeypatch.setattr(torch.cuda, 'is_available', lambda: False)
    with pytest.raises(UserError, match='train detectors on CPUs without it'):
        api.use_mixed_precision(cfg)
    monkeypatch.setattr(torch.cuda, 'is_available', lambda: True)
    api.use_mixed_precision(cfg)
    assert cfg.optim_wrapper.type == 'AmpOptimWrapper'
    cfg.default_scope = 'mmseg'
    api.use_mixed_precision(cfg)
    assert cfg.optim_wrapper.type == 'mae_toolkit.AutocastOptimWrapper'


@pytest.mark.process
def test_the_benchmark_measures_a_step_beside_its_backbone(tmp_path):
    out = tmp_path / 'numbers.json'
    done = tools('benchmark', 'detector', FIRST, '--size', 64, 96, '--runs', 1, '--device', 'cpu', '--json', out)
    assert done.returncode == 0 and 'backbone alone' in done.stdout, done.stderr
    (found,) = json.loads(out.read_text())
    assert found['step_cpu'] > found['backbone_cpu'] > 0 and found['times'] > 1
