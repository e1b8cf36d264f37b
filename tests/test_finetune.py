"""mae-toolkit finetune: from labels to a tested model, on the images that come with the package."""

import json
import logging
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from mmengine.registry import HOOKS

from mae_toolkit import commands
from mae_toolkit.apis import load_config
from mae_toolkit.checkpoints.run_folder import find_run
from mae_toolkit.errors import UserError
from mae_toolkit.planning.templates import find_config
from tiny import call

ROOT = Path(__file__).resolve().parents[1]
TINY = ROOT / 'mae_toolkit' / 'data' / 'tiny'
SMALL = ['--size', '64']


def finetune(*arguments):
    """Run the command in this process."""
    commands.main(['finetune', *map(str, arguments)])


def check(run, said, count, metric):
    """A run has its config, the best checkpoint, curves, and pictures of the test images; and it says how it went."""
    assert find_run(run).config == run / 'config.py' and find_run(run).checkpoint.name.startswith('best_')
    assert 'size = 64  # ' in (run / 'config.py').read_text()
    assert len(json.loads((run / 'pictures' / 'predictions.json').read_text())['images']) == count
    assert (run / 'loss.png').is_file() and (run / 'metric.png').is_file()
    assert f'{metric}: ' in said and f'best_{metric.replace("/", "_")}' in said and 'setting ' in said
    return load_config(run / 'config.py')


@pytest.mark.slow
def test_a_detector_is_trained_tested_and_drawn(tmp_path, capsys):
    pytest.importorskip('mmdet', reason='MMDetection is not installed: pip install -e .[det]')
    run = tmp_path / 'run'
    options = ['--cfg-options', 'validations=2', 'workers=0', 'width=16', 'proposals=60', 'batch_size=2']
    finetune('detect', TINY / 'bccd' / 'annotations' / 'train.json', '--out', run, *SMALL, '--steps', 4, *options)
    said = capsys.readouterr().out
    assert 'index created' not in said  # of pycocotools, for each dataset
    cfg = check(run, said, 12, 'coco/bbox_mAP')
    assert cfg.model.type == 'FasterRCNN' and cfg.model.roi_head.bbox_head.num_classes == 3
    assert len(json.loads((run / 'labels' / 'train.json').read_text())['images']) == 64
    assert 'COCO: 64 images for train, 16 for val' in said and 'steps = 4  # given' in (run / 'config.py').read_text()
    assert '| category ' in said and 'RBC' in said and 'loading annotations' not in said
    with pytest.raises(SystemExit):
        finetune('detect', TINY / 'bccd', '--out', run)
    assert 'earlier run' in capsys.readouterr().err


@pytest.mark.slow
def test_a_segmenter_begins_with_a_run_is_trained_tested_and_drawn(tmp_path, capsys, recwarn):
    pytest.importorskip('mmseg', reason='MMSegmentation is not installed: pip install -e .[seg]')
    for start, run in ((None, tmp_path / 'first'), (tmp_path / 'first', tmp_path / 'second')):
        begin = ['--from', start] if start else []
        options = ['--cfg-options', 'validations=2', 'workers=0', 'width=16', 'batch_size=2']
        finetune('segment', TINY / 'dsb2018', '--out', run, *SMALL, '--steps', 4, *begin, *options)
        said = capsys.readouterr().out
        cfg = check(run, said, 8, 'mIoU')
        assert cfg.model.decode_head.num_classes == 2 and cfg.model.decode_head.type == 'FCNHead'
    assert cfg.model.backbone.init_cfg.checkpoint.endswith('#backbone') and cfg.encoder_lr < 1
    assert not [warning for warning in recwarn if 'avg_non_ignore' in str(warning.message)]


@pytest.mark.slow
def test_a_classifier_of_a_table_is_trained_for_minutes_and_goes_on(tmp_path, capsys):
    rows = (TINY / 'train_classes.txt').read_text() + (TINY / 'val_classes.txt').read_text()
    table = tmp_path / 'labels.csv'
    table.write_text(rows.replace(' ', ','))
    run = tmp_path / 'run'
    options = ['--cfg-options', 'validations=2', 'workers=0', 'batch_size=8']
    finetune('classify', table, '--images', TINY, '--out', run, *SMALL, '--minutes', 0.02, *options)
    cfg = check(run, capsys.readouterr().out, 12, 'accuracy/top1')
    assert cfg.model.num_classes == 2 and cfg.minutes == 0.02
    assert f'epochs = {cfg.epochs}  # --minutes 0.02, ' in cfg.text
    assert cfg.train_cfg.max_epochs == cfg.epochs
    finetune('classify', table, '--out', run, '--resume')
    assert 'accuracy/top1' in capsys.readouterr().out


def test_a_mistake_is_one_sentence(tmp_path, capsys):
    bare = tmp_path.with_suffix('.pth')
    torch.save({'weight': torch.ones(1)}, bare)
    for arguments, words in (
        (('detect', tmp_path, '--out', tmp_path / 'run'), ['holds no labels', 'no files']),
        (('segment', tmp_path / 'lost', '--out', tmp_path / 'run'), ['no folder', 'lost']),
        (('classify', tmp_path, '--out', tmp_path / 'run', '--resume'), ['config.py', 'leave --resume out']),
        (('detect', TINY / 'bccd', '--out', tmp_path / 'run', '--encoder', 'resnet5'), ['resnet5', 'resnet50']),
        (('detect', TINY / 'bccd', '--out', tmp_path / 'run', '--from', 'lost.pth'), ['no checkpoint lost.pth']),
        (('detect', TINY / 'bccd', '--out', tmp_path / 'run', '--from', bare), [bare.name, '--encoder']),
    ):
        with pytest.raises(SystemExit):
            finetune(*arguments)
        said = capsys.readouterr().err
        assert all(word in said for word in words), said
    assert not (tmp_path / 'run' / 'config.py').exists()


@pytest.mark.slow
def test_the_tools_take_the_folder_of_a_run(tmp_path):
    """With their own config, as it was trained, and the best checkpoint; a config alone is not enough."""
    run_folder, images = tmp_path / 'run', tmp_path / 'images'
    for name, source in (('blood', 'bccd'), ('nuclei', 'dsb2018')):
        (images / name).mkdir(parents=True)
        for path in sorted((TINY / source / 'images').iterdir())[:12]:
            (images / name / path.name).write_bytes(path.read_bytes())
    options = ['--epochs', 1, '--cfg-options', 'workers=0', 'batch_size=4']
    finetune('classify', images, '--out', run_folder, *SMALL, *options)
    assert load_config(run_folder / 'config.py').train_cfg.max_epochs == 1
    status, said = call('test', run_folder, '--out', tmp_path / 'numbers.json')
    assert status == 0 and 'accuracy/top1: ' in said, said
    files = sorted((images / 'blood').iterdir())[:2]
    status, said = call('predict', run_folder, *files, '--out', tmp_path / 'found')
    assert status == 0 and 'wrote 2 pictures' in said, said
    checkpoint = find_run(run_folder).checkpoint
    for arguments in ((run_folder, checkpoint), (run_folder / 'config.py', checkpoint)):
        status, said = call('predict', *arguments, *files, '--out', tmp_path / 'found')
        assert status == 0, said
    for arguments in (
        ('test', run_folder / 'config.py'),
        ('predict', run_folder / 'config.py', files[0], '--out', 'x'),
    ):
        status, said = call(*arguments)
        assert status == 2 and 'CONFIG CHECKPOINT' in said


def test_finetune_is_a_function_of_the_package(tmp_path):
    from mae_toolkit import finetune as function

    with pytest.raises(UserError, match='task'):
        function('count', TINY, tmp_path / 'run')
    with pytest.raises(UserError, match='one of steps, epochs and minutes'):
        function('detect', TINY, tmp_path / 'run', steps=3, minutes=2)


@pytest.mark.parametrize(
    ('template', 'scores', 'stops'),
    [
        ('detection/custom_faster-rcnn.py', [0.1, 0.3, 0.3, 0.3], True),  # the same is no gain
        ('segmentation/custom_upernet.py', [50.0, 40.0, 51.0, 50.5], False),
        ('classification/custom_classifier.py', [50.0, 60.0, 59.0, 58.0], True),
    ],
)
def test_patience_stops_a_training_that_gains_nothing(template, scores, stops):
    cfg = load_config(find_config(template), {'patience': 2})
    hook = HOOKS.build(cfg.custom_hooks[0])
    runner = SimpleNamespace(train_loop=SimpleNamespace(stop_training=False), logger=logging.getLogger())
    for score in scores:
        assert not runner.train_loop.stop_training
        hook.after_val_epoch(runner, {cfg.metric: score})
    assert runner.train_loop.stop_training is stops
    assert load_config(find_config(template)).custom_hooks == []
