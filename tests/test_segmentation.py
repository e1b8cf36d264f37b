"""Segmentation configs: each fits its encoder, says the numbers of its recipe, and trains by our tools."""

import copy
import json
import os
import re
import runpy
import signal
import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
import yaml
from mmengine.registry import DefaultScope
from mmengine.structures import PixelData
from PIL import Image

from launching import ROOT
from mae_toolkit.apis import load_config
from mae_toolkit.apis import training as api
from mae_toolkit.datasets.checks import DataReport, semantic
from mae_toolkit.engine.hooks import SegmentationHook
from mae_toolkit.engine.hooks.segmentation import check_heads, check_labels, report_absent
from mae_toolkit.errors import UserError
from mae_toolkit.visualization import read_scalars

pytest.importorskip('mmseg', reason='MMSegmentation is not installed: pip install -e .[seg]')

from mmseg.registry import DATASETS, MODELS
from mmseg.structures import SegDataSample

pytestmark = [
    pytest.mark.slow,
    pytest.mark.filterwarnings('ignore:.*SegLocalVisualizer', 'ignore:Default ``avg_non_ignore`` is False'),
]
FOLDER = ROOT / 'configs' / 'segmentation'
CONFIGS = sorted(
    path for path in (ROOT / 'configs' / 'segmentation').glob('*.py') if not path.stem.startswith('custom_')
)
FCN = FOLDER / 'fcn_convnextv2-a_500s_dsb2018.py'
SMALL = [path for path in CONFIGS if path.stem.endswith('dsb2018')]
SETS = ROOT / 'data' / 'sets' / 'dsb2018'
NAME = re.compile(r'[a-z-]+_[a-z0-9-]+_(\d+k?s?)_[a-z0-9]+')
# What makes an encoder small; blocks and stages stay as many where a config counts them.
SHRUNK = {
    'ConvNeXt': {'depths': (1, 1, 1, 1), 'dims': (8, 8, 16, 16)},
    'Swin': {'depths': (2, 1, 1, 1), 'embed_dim': 8, 'num_heads': (1, 2, 2, 4), 'window_size': 4},
    'Hiera': {'stages': (1, 1, 1, 1), 'embed_dim': 8, 'num_heads': 1},
    'SparseCNN': {'arch': 'resnet18'},
    'ViT': {'embed_dim': 16, 'num_heads': 2},
}


def build(cfg, device='cpu'):
    cfg.backbone.pop('init_cfg', None)
    with DefaultScope.overwrite_default_scope('mmseg'), torch.device(device):
        return MODELS.build(cfg)


@pytest.mark.slow
@pytest.mark.parametrize('path', CONFIGS, ids=lambda path: path.stem)
def test_a_config_fits_its_encoder(path):
    """On a device without memory for weights."""
    cfg = load_config(path)
    model = build(cfg.model, 'meta').eval()
    height, width = cfg.model.data_preprocessor.size
    imgs = torch.empty(1, 3, height, width, device='meta')
    maps = model.extract_feat(imgs)
    strides = [height // x.shape[2] for x in maps]
    assert strides == [4, 8, 16, 32] == list(cfg.model.decode_head.get('feature_strides', strides))
    assert model.decode_head(maps).shape == (1, cfg.model.decode_head.num_classes, height // 4, width // 4)
    crop = next(step for step in cfg.train_dataloader.dataset.pipeline if step.type == 'RandomCrop')
    assert tuple(crop.crop_size) == (height, width)
    unit = model.backbone.mask_unit
    padded = tuple(-(-side // unit) * unit for side in (height, width))  # patches of 14 pixels cover 518 of 512
    assert cfg.model.backbone.get('img_size', padded) in (padded, padded[0])


def samples(size, classes, count=2):
    labels = torch.arange(size * size).reshape(1, size, size) // size % classes
    meta = {'img_shape': (size, size), 'ori_shape': (size, size)}
    return [SegDataSample(gt_sem_seg=PixelData(data=labels.clone()), metainfo=meta) for _ in range(count)]


@pytest.mark.slow
@pytest.mark.parametrize('path', CONFIGS, ids=lambda path: path.stem)
def test_a_shrunk_config_takes_a_training_step(path):
    cfg = load_config(path).model
    kind = cfg.backbone.type.removeprefix('mae_toolkit.')
    cfg.backbone.update(SHRUNK[kind] | ({'img_size': 64} if 'img_size' in cfg.backbone else {}))
    with DefaultScope.overwrite_default_scope('mmseg'):
        channels = list(MODELS.build({k: v for k, v in cfg.backbone.items() if k != 'init_cfg'}).out_channels)
    cfg.data_preprocessor.size = (64, 64)
    if 'scale_factor' in cfg.get('neck', {}):
        cfg.neck.update(in_channels=channels[0], out_channels=8)
        channels = [8] * 4
    elif 'neck' in cfg:
        cfg.neck.update({'embed_dim': channels[0]} if 'rescales' in cfg.neck else {'in_channels': channels})
    if cfg.get('neck', {}).get('type') != 'FPN':
        cfg.decode_head.in_channels = channels
    for head in [cfg[name] for name in ('decode_head', 'auxiliary_head') if name in cfg]:
        head.channels = 8
    if 'auxiliary_head' in cfg:
        cfg.auxiliary_head.in_channels = channels[2]
    model = build(cfg).train()
    data = {'inputs': [torch.randint(256, (3, 64, 64), dtype=torch.uint8) for _ in range(2)]}
    data |= {'data_samples': samples(64, cfg.decode_head.num_classes)}
    losses = model(**model.data_preprocessor(data, training=True), mode='loss')
    sum(value for name, value in losses.items() if 'loss' in name).backward()
    assert not [name for name, p in model.named_parameters() if p.requires_grad and p.grad is None]


def lines():
    """(config, dotted key, value) of recipes_segmentation.yaml."""
    content = yaml.safe_load((ROOT / 'tests' / 'recipes_segmentation.yaml').read_text())
    for schedule, entries in content.items():
        for name in entries.keys() - {'all'}:
            yield f'{name}_{schedule}', entries['all'] | entries[name]


def at(cfg, key):
    """The value at a dotted key, or None; numbers count the items of lists."""
    for part in key.split('.'):
        cfg = (cfg[int(part)] if part.isdigit() else cfg.get(part)) if cfg is not None else None
    return json.loads(json.dumps(cfg))  # lists for tuples


@pytest.mark.parametrize('path', CONFIGS, ids=lambda path: path.stem)
def test_a_config_says_the_numbers_of_its_recipe(path):
    recipe, cfg = dict(lines())[path.stem.rsplit('_', 1)[0]], load_config(path)
    assert {key: at(cfg, key) for key in recipe} == recipe
    steps = NAME.fullmatch(path.stem)[1]
    assert cfg.train_cfg.max_iters == int(steps[:-1]) * (1000 if steps.endswith('k') else 1)
    *warmups, main = cfg.param_scheduler
    assert [schedule.begin for schedule in cfg.param_scheduler] == [0, *(schedule.end for schedule in warmups)]
    assert 'end' not in main  # it follows max_iters


def test_every_recipe_has_a_config_and_bases_are_at_most_two_deep():
    assert sorted(name for name, _ in lines()) == sorted(path.stem.rsplit('_', 1)[0] for path in CONFIGS)

    def depth(path):
        bases = re.findall(r"'(\./[^']*\.py)'", path.read_text().split('model =')[0])
        return 1 + max((depth(path.parent / base) for base in bases), default=-1)

    assert max(map(depth, CONFIGS)) <= 2


@pytest.fixture
def shapes(tmp_path):
    """24 images with a bright square, on masks of two classes with a palette; 8 of them held out."""
    folder, generator = tmp_path / 'shapes', np.random.default_rng(0)
    for name in ('images', 'semantic', 'splits'):
        (folder / name).mkdir(parents=True)
    for i in range(24):
        label = np.zeros((64, 80), np.uint8)
        top, left = generator.integers(0, 36, 2)
        label[top : top + 28, left : left + 28] = 1
        image = generator.integers(0, 100, (64, 80, 3)) + 120 * label[..., None]
        Image.fromarray(image.astype(np.uint8)).save(folder / 'images' / f'{i}.jpg')
        save_mask(label, folder / 'semantic' / f'{i}.png')
    for split, names in {'train': range(16), 'val': range(16, 24), 'test': range(16, 24)}.items():
        (folder / 'splits' / f'{split}.txt').write_text(''.join(f'{i}\n' for i in names))
    return folder


def save_mask(label, path):
    mask = Image.fromarray(label, 'P')
    mask.putpalette([0, 0, 0, 255, 255, 255] * 128)
    mask.save(path)


def options(root, steps=2, side=64):
    """What changes a config to so many steps on small crops of a set elsewhere."""
    loaders = ('train_dataloader', 'val_dataloader', 'test_dataloader')
    changes = {f'{loader}.dataset.data_root': str(root) for loader in loaders}
    changes |= {f'{loader}.num_workers': 0 for loader in loaders}
    changes |= {f'{loader}.persistent_workers': False for loader in loaders[:2]}
    changes |= {f'{loader}.dataset.pipeline.1.scale': (side, side) for loader in loaders[1:]}
    changes |= {'train_dataloader.dataset.pipeline.2.scale': (side, side)}
    changes |= {'train_dataloader.dataset.pipeline.3.crop_size': (side, side)}
    changes |= {'model.data_preprocessor.size': (side, side), 'test_dataloader.dataset.ann_file': 'splits/val.txt'}
    changes |= {'train_cfg.max_iters': steps, 'train_cfg.val_interval': steps, 'env_cfg.num_threads': 1}
    changes |= {'default_hooks.checkpoint.interval': steps, 'default_hooks.logger.interval': 1}
    return changes | {'param_scheduler.0.end': 2, 'param_scheduler.1.begin': 2, 'param_scheduler.1.end': max(3, steps)}


@pytest.mark.slow
@pytest.mark.parametrize('path', SMALL, ids=lambda path: path.stem)
def test_a_small_config_trains_and_is_evaluated(path, tmp_path):
    """On real images, in one process, each with a log and a curve of its own."""
    cfg = load_config(path, options(ROOT / 'mae_toolkit' / 'data' / 'tiny' / 'dsb2018'))
    api.train(cfg, tmp_path / 'run')
    seen = read_scalars(tmp_path / 'run')
    assert list(seen['train/loss']) == [1, 2] and (tmp_path / 'run' / 'loss.png').is_file()
    assert {'val/aAcc', 'val/mDice'} <= set(seen) and 0 < seen['val/mIoU'][2] < 100


@pytest.mark.slow
def test_squares_are_learned_in_twenty_steps(shapes, tmp_path):
    changes = options(shapes, 20) | {'optim_wrapper.optimizer.lr': 2e-3}
    cfg = load_config(FCN, changes)
    api.train(cfg, tmp_path / 'run')
    assert api.test(cfg, str(tmp_path / 'run' / 'iter_20.pth'), tmp_path / 'test')['mIoU'] > 80


def test_the_real_set_is_whole_and_trains(tmp_path):
    if not SETS.is_dir():
        pytest.skip('no data/sets/dsb2018: python tools/unpack_archives.py dsb2018.tar --out data/sets')
    cfg = load_config(FCN, options(SETS, 1) | {'test_dataloader.dataset.ann_file': 'splits/test.txt'})
    with DefaultScope.overwrite_default_scope('mmseg'):
        parts = [DATASETS.build(cfg[f'{part}_dataloader'].dataset) for part in ('train', 'val', 'test')]
    for name, part in zip(('train', 'val', 'test'), parts, strict=True):
        check_heads(SimpleNamespace(dataset=part), build(copy.deepcopy(cfg.model)))
        assert not semantic.check_dataset(cfg[f'{name}_dataloader'].dataset, name, cfg).findings
    assert [len(part) for part in parts] == [465, 100, 99]
    cfg.val_cfg = cfg.val_dataloader = cfg.val_evaluator = None
    api.train(cfg, tmp_path / 'run')


def tool(monkeypatch, name, *arguments, changes):
    """Run a tool in this process."""
    values = [f'{key}={value}'.replace(' ', '') for key, value in changes.items()]
    monkeypatch.setattr(sys, 'argv', [name, *map(str, arguments), '--cfg-options', *values])
    runpy.run_path(str(ROOT / 'tools' / f'{name}.py'), run_name='__main__')


def killed(cfg, run, monkeypatch):
    """Train in a process of its own that is killed before its fourth step."""

    def kill(self, runner, batch_idx, data_batch=None):
        if runner.iter == 3:
            os.kill(os.getpid(), signal.SIGKILL)

    process = os.fork()
    if not process:
        monkeypatch.setattr(SegmentationHook, 'before_train_iter', kill)
        try:
            api.train(cfg, run, amp=True)
        finally:
            os._exit(1)
    return os.waitstatus_to_exitcode(os.waitpid(process, 0)[1]) == -signal.SIGKILL


@pytest.mark.process
def test_a_killed_run_in_mixed_precision_is_resumed_and_tested(shapes, tmp_path, monkeypatch, capsys):
    changes, run = options(shapes, 5) | {'default_hooks.checkpoint.interval': 2}, tmp_path / 'run'
    assert killed(load_config(FCN, changes), run, monkeypatch)
    assert [path.name for path in run.glob('*.pth')] == ['iter_2.pth']
    tool(monkeypatch, 'train', FCN, '--work-dir', run, '--amp', '--resume', changes=changes)
    assert 'mIoU' in capsys.readouterr().err and (run / 'loss.png').is_file()
    assert sorted(read_scalars(run)['train/loss']) == [1, 2, 3, 4, 5]
    assert 'AutocastOptimWrapper' in (run / FCN.name).read_text()
    out = tmp_path / 'numbers.json'
    places = ('--work-dir', tmp_path / 'test', '--out', out)
    tool(monkeypatch, 'test', FCN, run / 'iter_5.pth', *places, changes=changes)
    assert json.loads(out.read_text())['mIoU'] > 0


def test_from_pretrained_weights_it_takes_a_config_of_15_lines(tmp_path):
    """The one of docs/segmentation.md, as far as the checkpoint that is not there."""
    text = re.search(r'```python\n(.*?)```', (ROOT / 'docs' / 'segmentation.md').read_text(), re.S)[1]
    assert len(text.splitlines()) <= 15
    config = tmp_path / 'mine.py'
    config.write_text(text.replace('{{ fileDirname }}', str(FOLDER)))
    cfg = load_config(config, options(ROOT / 'mae_toolkit' / 'data' / 'tiny' / 'dsb2018'))
    with pytest.raises(UserError, match=f'no checkpoint {cfg.model.backbone.init_cfg.checkpoint}'):
        api.train(cfg, tmp_path / 'run')


def test_own_images_take_a_config_of_15_lines(tmp_path, monkeypatch):
    """The second one of docs/segmentation.md, on two images."""
    monkeypatch.chdir(tmp_path)
    text = re.findall(r'```python\n(_base_.*?)```', (ROOT / 'docs' / 'segmentation.md').read_text(), re.S)[1]
    assert len(text.splitlines()) <= 15
    Path('mine.py').write_text(text.replace('{{ fileDirname }}', str(FOLDER)))
    for folder in ('images', 'labels'):
        Path('data/mine', folder).mkdir(parents=True)
    for split in ('train', 'val'):
        Image.new('RGB', (80, 64)).save(f'data/mine/images/{split}.jpg')
        save_mask(np.tile(np.uint8([[0, 1, 2, 255]]), (64, 20)), Path('data/mine/labels', f'{split}.png'))
        Path(f'data/mine/{split}.txt').write_text(split)
    cfg = load_config('mine.py')
    model = build(cfg.model, 'meta')
    for split in ('train', 'val', 'test'):
        loader = cfg[f'{split}_dataloader']
        report = semantic.check_dataset(loader.dataset, split, cfg)
        assert not report.errors and set(report.classes.values()) == {16 * 80}
        with DefaultScope.overwrite_default_scope('mmseg'):
            loader = SimpleNamespace(dataset=DATASETS.build(loader.dataset))
        assert len(loader.dataset) == 1
        check_heads(loader, model)


def refusal(shapes, masks=1000):
    """What is said of the training images: warnings, or an error."""
    cfg = load_config(FCN, options(shapes) | {'default_hooks.segmentation.masks': masks})
    dataset = cfg.train_dataloader.dataset
    assert semantic.can_check(dataset, cfg)
    report = DataReport([semantic.check_dataset(dataset, 'train', cfg)])
    report.raise_if_fatal()
    return report.warnings()


def test_files_that_are_missing_are_counted_and_named(shapes):
    assert refusal(shapes) == []
    for i in (3, 5, 7, 9):
        (shapes / 'semantic' / f'{i}.png').unlink()
    sentence = r'train.txt: 4 of the 16 masks are missing \(.*3.png; .*5.png; .*7.png, and 1 more\)'
    with pytest.raises(UserError, match=sentence):
        refusal(shapes)
    (shapes / 'images' / '2.jpg').unlink()
    with pytest.raises(UserError, match=r'train.txt: 1 of the 16 images is missing \(.*2.jpg\)'):
        refusal(shapes)


def test_a_head_of_other_classes_is_refused(shapes):
    cfg = load_config(FCN, options(shapes))
    with DefaultScope.overwrite_default_scope('mmseg'):
        loader = SimpleNamespace(dataset=DATASETS.build(cfg.train_dataloader.dataset))
    joined = SimpleNamespace(dataset=SimpleNamespace(datasets=[SimpleNamespace(dataset=loader.dataset)]))
    check_heads(joined, build(copy.deepcopy(cfg.model)))
    cfg.model.decode_head.update(num_classes=3, out_channels=3)
    model = build(cfg.model)
    for one in (loader, joined):
        with pytest.raises(UserError, match=r'decode_head has num_classes=3, and .* has 2 classes \(background, nuc'):
            check_heads(one, model)


def test_labels_beyond_the_classes_are_refused(shapes):
    label = np.full((64, 80), 255, np.uint8)
    label[:2] = 0
    label[5:9] = 7
    save_mask(label, shapes / 'semantic' / '12.png')
    sentence = r'1 of the 16 masks read has labels \(7\) beyond those of the 2 classes, 0 to 1 \(.*12.png\)'
    with pytest.raises(UserError, match=sentence):
        refusal(shapes)
    with pytest.raises(UserError, match='1 of the 4 masks read'):
        refusal(shapes, masks=4)  # 0, 4, 8 and 12
    refusal(shapes, masks=2)  # 0 and 8
    batch = samples(8, 2)
    model = build(load_config(FCN).model)
    check_labels(batch, model)
    batch[1].gt_sem_seg.data[0, 0, 0] = 255
    check_labels(batch, model)
    batch[1].gt_sem_seg.data[0, 0, 0] = 2
    with pytest.raises(UserError, match=r'labels \(2\) beyond those of the 2 classes, 0 to 1'):
        check_labels(batch, model)


def test_the_hook_looks_at_every_batch(shapes, tmp_path):
    save_mask(np.full((64, 80), 7, np.uint8), shapes / 'semantic' / '16.png')
    cfg = load_config(FCN, options(shapes, 1) | {'default_hooks.segmentation.masks': 0})
    with pytest.raises(UserError, match=r'16.png has labels \(7\)'):
        api.train(cfg, tmp_path / 'val')
    for i in range(16):
        save_mask(np.full((64, 80), 7, np.uint8), shapes / 'semantic' / f'{i}.png')
    with pytest.raises(UserError, match=r'\d+.png has labels \(7\)'):
        api.train(cfg, tmp_path / 'train')


def test_masks_in_colors_are_refused(shapes):
    Image.open(shapes / 'semantic' / '0.png').convert('RGB').save(shapes / 'semantic' / '0.png')
    with pytest.raises(UserError, match=r'0.png has 3 channels where one is expected'):
        refusal(shapes)


def test_a_mask_of_another_size_is_refused(shapes):
    save_mask(np.zeros((64, 72), np.uint8), shapes / 'semantic' / '3.png')
    with pytest.raises(UserError, match=r'3.png has 64 x 72 pixels, and its image .*3.jpg 64 x 80'):
        refusal(shapes)


def test_masks_of_black_and_white_are_told_and_without_a_class_refused(shapes):
    for i in range(16):
        path = shapes / 'semantic' / f'{i}.png'
        Image.fromarray(np.array(Image.open(path)) * 255).save(path)
    (said,) = refusal(shapes)
    assert '1 of the 2 classes occurs in none of the 16 masks' in said and '15% of the pixels' in said
    assert '(nucleus (1)): if 255 means a class, replace it' in said
    for i in range(16):
        Image.fromarray(np.full((64, 80), 255, np.uint8)).save(shapes / 'semantic' / f'{i}.png')
    with pytest.raises(
        UserError, match=r'2 of the 2 classes occur in none of .* 100% of the pixels have the label 255'
    ):
        refusal(shapes)


def test_an_evaluation_says_which_classes_never_occur(shapes, tmp_path):
    for i in range(16, 24):
        save_mask(np.zeros((64, 80), np.uint8), shapes / 'semantic' / f'{i}.png')
    api.train(load_config(FCN, options(shapes, 1)), tmp_path / 'run')
    (log,) = (tmp_path / 'run').glob('*/*.log')
    assert '1 of the 2 classes occurs in none of the masks (nucleus (1))' in log.read_text()


def test_what_cannot_be_measured_is_zero_and_told():
    said, pixels = [], torch.zeros(256, dtype=torch.int64)
    metrics = {'aAcc': float('nan'), 'mIoU': 30.0}
    report_absent(('a', 'b'), pixels, metrics, SimpleNamespace(warning=said.append))
    assert metrics == {'aAcc': 0.0, 'mIoU': 30.0}
    assert 'a (0), b (1)' in said[0] and 'aAcc had nothing to be measured on' in said[1]
    pixels[:2] = 1
    report_absent(('a', 'b'), pixels, {'mIoU': 30.0}, SimpleNamespace(warning=said.append))
    assert len(said) == 2


def test_a_missing_list_of_a_split_is_told(shapes, tmp_path):
    (shapes / 'splits' / 'train.txt').unlink()
    with pytest.raises(UserError, match=r'train.txt'):
        api.train(load_config(FCN, options(shapes)), tmp_path / 'run')
