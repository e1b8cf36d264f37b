"""Whole runs of classification: training, probing, resumption, the tools, on folders of dark and bright pictures."""

import copy
import itertools
import json
import re

import numpy as np
import pytest
import torch
from mmengine.config import Config
from PIL import Image

from launching import ROOT
from mae_toolkit.apis.training import test as evaluate
from mae_toolkit.apis.training import train
from mae_toolkit.checkpoints.files import load
from mae_toolkit.checkpoints.weights import load_weights
from mae_toolkit.config.load import check_config, load_config
from mae_toolkit.engine import Runner
from mae_toolkit.errors import UserError
from mae_toolkit.registry import DATASETS
from parts import make_model
from test_tools import run

pytestmark = pytest.mark.slow

NAMES = itertools.count()
VIT = {'type': 'ViT', 'patch_size': 8, 'embed_dim': 24, 'depth': 2, 'num_heads': 3, 'img_size': 16}


@pytest.fixture
def folder(tmp_path):
    """Sixteen dark, middling and bright pictures each to train with, eight each to look whether it helped."""
    generator = np.random.default_rng(0)
    for split, count in (('train', 16), ('val', 8)):
        for name, level in (('bright', 190), ('dark', 60), ('middling', 125)):
            (tmp_path / 'data' / split / name).mkdir(parents=True)
            for i in range(count):
                picture = (level + generator.integers(-20, 20, size=(20, 24, 3))).astype(np.uint8)
                Image.fromarray(picture).save(tmp_path / 'data' / split / name / f'{i}.png')
    return tmp_path


def config(folder, epochs=6, lr=1e-2, hooks=(), encoder=None, wrapper=None, **model):
    loader = {
        'batch_size': 8,
        'num_workers': 0,
        'sampler': {'type': 'EpochSampler'},
        'collate_fn': {'type': 'mae_toolkit.image_collate'},
        'dataset': {'type': 'LabeledDataset', 'data_root': str(folder / 'data'), 'split': 'train'},
    }
    loader['dataset']['pipeline'] = [{'type': 'RandomCrop', 'size': 16}, {'type': 'RandomFlip'}]
    held_out = copy.deepcopy(loader)
    held_out['sampler'] = {'type': 'EpochSampler', 'shuffle': False, 'round_up': False}
    held_out['dataset'] |= {'split': 'val', 'classes': 'train', 'pipeline': [{'type': 'CenterCrop', 'size': 16}]}
    model = {'num_classes': 3, 'data_preprocessor': {'type': 'ClassificationPreprocessor'}} | model
    optimizer = {'type': 'AdamW', 'lr': lr, 'weight_decay': 0.05}
    layers = {'constructor': 'LayerDecayOptimWrapperConstructor', 'paramwise_cfg': {'decay_rate': 0.9}}
    return Config(
        {
            'model': {'type': 'Classifier', 'encoder': VIT | (encoder or {}), **model},
            'train_dataloader': loader,
            'val_dataloader': held_out,
            'train_cfg': {'type': 'EpochTrainLoop', 'max_epochs': epochs, 'val_interval': 3},
            'val_cfg': {'type': 'ValLoop'},
            'val_evaluator': {'type': 'Accuracy'},
            'optim_wrapper': {'type': 'OptimWrapper', 'optimizer': optimizer, **layers} | (wrapper or {}),
            'default_hooks': {
                'checkpoint': {'type': 'SafeCheckpointHook', 'save_best': 'accuracy/top1', 'rule': 'greater'},
                'iteration_seed': {'type': 'IterationSeedHook'},
                'nan_guard': {'type': 'NaNGuardHook'},
                'broken_images': {'type': 'BrokenImagesHook'},
                'progress': {'type': 'ProgressHook'},
            },
            'custom_hooks': list(hooks),
            'default_scope': 'mae_toolkit',
            'randomness': {'seed': 1},
            'experiment_name': f'classification_{next(NAMES)}',
        }
    )


@pytest.mark.parametrize('classes', [2, 4])
def test_a_model_of_other_classes_than_the_labels_is_refused(folder, classes):
    with pytest.raises(UserError, match=rf'num_classes={classes}, and .* of 3 classes \(bright, dark, middling\): set'):
        train(config(folder, num_classes=classes), folder / 'work')


def test_own_images_take_a_config_of_15_lines(folder, monkeypatch):
    """The one of docs/classification.md, as far as the checkpoint that is not there."""
    monkeypatch.chdir(folder)
    text = re.search(r'```python\n(.*?)```', (ROOT / 'docs' / 'classification.md').read_text(), re.S)[1]
    assert len(text.splitlines()) <= 15
    (folder / 'mine.py').write_text(text.replace('{{ fileDirname }}', f'{ROOT}/configs/classification'))
    (folder / 'data').rename(folder / 'mine')
    (folder / 'data').mkdir()
    (folder / 'mine').rename(folder / 'data' / 'mine')
    cfg = load_config('mine.py', {'train_dataloader.batch_size': 8})
    with pytest.raises(UserError, match=f'no checkpoint {cfg.model.encoder.init_cfg.checkpoint}'):
        train(cfg, folder / 'run')
    for split, length in (('train', 48), ('val', 24), ('test', 24)):
        dataset = DATASETS.build(cfg[f'{split}_dataloader'].dataset)
        assert len(dataset) == length and len(dataset.metainfo['classes']) == cfg.model.num_classes


def scores(folder):
    """What validation found, in order."""
    lines = [
        json.loads(line) for path in folder.glob('*/vis_data/scalars.json') for line in path.read_text().splitlines()
    ]
    return [line['accuracy/top1'] for line in lines if 'accuracy/top1' in line]


@pytest.mark.parametrize('as_list', [False, True])
def test_validation_that_lacks_the_first_class_is_numbered_as_training(folder, as_list):
    """By training and by a test alone, where the config names no classes."""
    cfg = config(folder)
    (folder / 'data' / 'val' / 'bright').rename(folder / 'bright')
    del cfg.val_dataloader.dataset['classes']
    if as_list:
        for loader, split in ((cfg.train_dataloader, 'train'), (cfg.val_dataloader, 'val')):
            names = sorted((folder / 'data' / split).rglob('*.png'))
            lines = [f'{path.relative_to(folder / "data")} {path.parent.name}\n' for path in names]
            (folder / 'data' / f'{split}.txt').write_text(''.join(lines))
            loader.dataset.update(ann_file=f'{split}.txt', split=None)
    train(cfg, work_dir=str(folder / 'run'))
    assert scores(folder / 'run')[-1] > 90
    assert evaluate(cfg, str(folder / 'run' / 'epoch_6.pth'), folder / 'test')['accuracy/top1'] > 90


def test_bright_and_dark_are_told_apart_within_seconds(folder, capfd):
    cfg = config(folder, head_norm=True, label_smoothing=0.1, encoder={'positions': 'learned', 'drop_path_rate': 0.1})
    cfg.model.data_preprocessor |= {'random_erasing': 0.1, 'mixup': {'mixup_alpha': 0.2, 'prob': 0.5}}
    check_config(cfg)
    train(cfg, work_dir=str(folder / 'run'))
    found = scores(folder / 'run')
    assert len(found) == 2 and found[-1] > 90
    assert 'held-out images: accuracy/top1' in capfd.readouterr().err
    best = list((folder / 'run').glob('best_accuracy_top1_epoch_*.pth'))
    assert len(best) == 1
    metrics = evaluate(cfg, str(best[0]), str(folder / 'test'))
    assert metrics == {'accuracy/top1': pytest.approx(max(found))}
    assert load(folder / 'run' / 'epoch_6.pth')['meta']['dataset_meta'] == {'classes': ['bright', 'dark', 'middling']}


@pytest.mark.slow
def test_a_run_goes_on_as_if_it_had_not_been_stopped(folder):
    options = {'hooks': [{'type': 'EMAHook', 'momentum': 0.1}], 'epochs': 3}
    for name, epochs, resume in (('whole', 3, None), ('parts', 2, None), ('parts', 3, 'auto')):
        cfg = config(folder, **options)
        cfg.model.data_preprocessor |= {'random_erasing': 0.5, 'mixup': {'mixup_alpha': 0.8, 'cutmix_alpha': 1.0}}
        cfg.train_dataloader.dataset.pipeline.append({'type': 'RandAugment'})
        cfg.train_cfg.max_epochs = epochs
        train(cfg, work_dir=str(folder / name), resume=resume)
    whole, parts = (load(folder / name / 'epoch_3.pth') for name in ('whole', 'parts'))
    for kind in ('state_dict', 'ema_state_dict'):
        assert all(torch.equal(value, parts[kind][name]) for name, value in whole[kind].items())
    name = 'head.linear.weight'  # what is saved as the weights, and what was trained, are not the same
    assert not torch.equal(whole['state_dict'][name], whole['ema_state_dict'][f'module.{name}'])


def test_a_probe_takes_pretrained_weights_and_leaves_them(folder):
    pretrained = make_model({**VIT}).encoder.state_dict()
    state = {f'encoder.{name}': value for name, value in pretrained.items()}
    torch.save({'state_dict': state | {'decoder.mask_token': torch.zeros(8)}}, folder / 'pretrained.pth')
    init = {'type': 'Pretrained', 'checkpoint': str(folder / 'pretrained.pth'), 'prefix': 'encoder'}
    lars = {'type': 'Lars', 'lr': 1.0, 'momentum': 0.9, 'weight_decay': 0.0, 'always_adapt': True}
    wrapper = {'constructor': 'GroupedOptimWrapperConstructor', 'optimizer': lars}
    wrapper['paramwise_cfg'] = {'custom_keys': {'linear.bias': {'always_adapt': False}}}
    options = {'freeze': True, 'batch_norm': True, 'pooling': 'class', 'epochs': 1}
    cfg = config(folder, encoder={'init_cfg': init}, wrapper=wrapper, **options)
    runner = Runner.from_cfg(Config({**cfg, 'work_dir': str(folder / 'probe')}))
    runner.train()
    held = {id(p) for group in runner.optim_wrapper.optimizer.param_groups for p in group['params']}
    assert held == {id(p) for p in runner.model.head.parameters()}
    adapted = [group['always_adapt'] for group in runner.optim_wrapper.optimizer.param_groups]
    assert sorted(adapted) == [False, True]
    trained = load_weights(folder / 'probe' / 'epoch_1.pth')
    assert all(torch.equal(trained[f'encoder.{name}'], value) for name, value in pretrained.items())
    assert trained['head.batch_norm.running_mean'].any()


def test_weights_that_do_not_fit_are_told(folder):
    state = {f'encoder.{name}': value for name, value in make_model({**VIT, 'depth': 1}).encoder.state_dict().items()}
    torch.save({'state_dict': state}, folder / 'other.pth')
    init = {'type': 'Pretrained', 'checkpoint': str(folder / 'other.pth'), 'prefix': 'encoder'}
    with pytest.raises(UserError, match='The weights lack 12 keys'):
        train(config(folder, encoder={'init_cfg': init}), work_dir=str(folder / 'run'))


def test_a_misspelt_metric_is_told(folder):
    cfg = config(folder)
    cfg.val_evaluator = {'type': 'Acuracy'}
    with pytest.raises(UserError, match="val_evaluator: there is no 'Acuracy'; did you mean Accuracy"):
        check_config(cfg)


@pytest.mark.process
def test_the_tools_train_and_test(folder):
    cfg = config(folder, epochs=3)
    cfg.dump(folder / 'small.py')
    text = run('train', folder / 'small.py', '--work-dir', folder / 'run', plain=True)
    assert 'checkpoint: ' in text
    text = run('test', folder / 'small.py', folder / 'run' / 'epoch_3.pth', '--work-dir', folder / 'test', plain=True)
    assert 'accuracy/top1: ' in text
