"""Mistakes in the arguments of the commands are one sentence, before any work, and leave nothing behind."""

import json

import numpy as np
import pytest
import timm
import torch
from mmengine.config import Config
from PIL import Image

from mae_toolkit import commands, finetune, load_encoder, pretrain
from mae_toolkit.apis import pretraining
from mae_toolkit.apis.run_checks import MARK, check_new_run, check_resumed
from mae_toolkit.datasets.labels.find import read_boxes
from mae_toolkit.errors import UserError
from mae_toolkit.planning import pretraining as planning


@pytest.fixture
def photos(tmp_path, monkeypatch):
    """Twelve images, and a fingerprint that must not be taken."""

    def refuse(*arguments):
        raise AssertionError('the images were looked at')

    monkeypatch.setattr(pretraining, 'take_fingerprint', refuse)
    folder = tmp_path / 'photos'
    folder.mkdir()
    for seed in range(12):
        pixels = np.random.default_rng(seed).integers(0, 256, (24, 32, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(folder / f'{seed}.png')
    return folder


@pytest.mark.parametrize(
    ('given', 'said'),
    [
        (dict(folder=''), 'folder of images is empty'),
        (dict(out=''), '--out is empty'),
        (dict(out='photos/run'), 'would be taken for images'),
        (dict(out='photos/0.png'), 'is not a folder'),
        (dict(size=100_000), 'at most 4,096 pixels'),
        (dict(size=7), 'multiple of 16'),
        (dict(labels='one'), 'has the classes a: two or more'),
        (dict(labels='few'), 'has 2 labeled images: 4 or more'),
        (dict(weights='resnet.pth'), 'hold a ResNet .* the model has a ViT'),
        (dict(weights='text.pth'), 'is no checkpoint, or a damaged one .KeyError'),
    ],
)
def test_pretraining_is_refused_before_the_images_are_looked_at(photos, tmp_path, monkeypatch, given, said):
    monkeypatch.chdir(tmp_path)
    torch.save(timm.create_model('resnet10t').state_dict(), 'resnet.pth')
    (tmp_path / 'text.pth').write_text('hello')
    for name in ('one/a', 'few/a', 'few/b'):
        (tmp_path / name).mkdir(parents=True)
        (tmp_path / name / '0.png').write_bytes((photos / '0.png').read_bytes())
    before = sorted(tmp_path.rglob('*'))
    with pytest.raises(UserError, match=said):
        pretrain(**dict(folder='photos', encoder='vit_tiny_patch16_224', out='run') | given)
    assert sorted(tmp_path.rglob('*')) == before


def test_a_run_replaces_no_config_and_no_checkpoint_of_others(tmp_path):
    (tmp_path / 'config.py').write_text('mine = 1\n')
    with pytest.raises(UserError, match='did not write it'):
        check_new_run(tmp_path)
    (tmp_path / 'config.py').write_text(f'# {MARK} pretrain\n')
    assert check_new_run(tmp_path) == tmp_path  # nothing was saved yet: it begins again
    (tmp_path / 'epoch_1.pth').touch()
    with pytest.raises(UserError, match='go on with --resume'):
        check_new_run(tmp_path)
    (tmp_path / 'config.py').unlink()
    with pytest.raises(UserError, match='checkpoints of another training'):
        check_new_run(tmp_path)


def test_a_run_goes_on_only_as_it_began(tmp_path):
    cfg = Config(dict(size=(64, 96), arch='vit'))
    check_resumed(cfg, tmp_path, dict(size=[64, 96], arch=None))
    with pytest.raises(UserError, match="has arch = 'vit', and 'swin' was given"):
        check_resumed(cfg, tmp_path, dict(arch='swin'))
    (tmp_path / 'config.py').write_text(f'# {MARK} finetune detect: every setting\nsize = 64\n')
    with pytest.raises(UserError, match='go on with finetune detect'):
        finetune('classify', 'labels', tmp_path, resume=True)


@pytest.mark.parametrize(
    ('given', 'said'),
    [
        (dict(data=''), 'name of the labels is empty'),
        (dict(encoder='ViT'), r"no architecture 'ViT': (did you mean|timm\.list_models)"),
        (dict(encoder='resnet10t.a1'), 'names weights'),
        (dict(encoder='vit_tiny_patch16_224', weights='resnet.pth'), 'hold a ResNet .* the model has a ViT'),
        (dict(size=7), '32 to 4,096 pixels'),
        (dict(ignore_index=-5), 'a mask has values from 0'),
        (dict(out='photos/run'), 'would be taken for images'),
    ],
)
def test_finetuning_is_refused_before_labels_are_written(photos, tmp_path, monkeypatch, given, said):
    monkeypatch.chdir(tmp_path)
    torch.save(timm.create_model('resnet10t').state_dict(), 'resnet.pth')
    with pytest.raises(UserError, match=said):
        finetune(**dict(task='classify', data='photos', out='run') | given)
    assert not (tmp_path / 'run').exists()


@pytest.mark.parametrize(
    ('change', 'said'),
    [
        (lambda c: c['annotations'][0].update(image_id=70), r'1 of the 12 annotations .* \(image_id 70; .* 0, 1, 2, '),
        (lambda c: [a.update(category_id=9) for a in c['annotations']], '12 of the 12 .* category .*category_id 9'),
        (lambda c: c['annotations'][0].update(bbox=[1, 2, 3]), r'1 of the 12 .* bbox .*\[1, 2, 3\]'),
        (lambda c: c['annotations'][0].update(bbox='x'), '1 of the 12 .* bbox'),
        (lambda c: c['annotations'][0].update(bbox=[1, 2, float('nan'), 3]), '1 of the 12 .* bbox .*nan'),
        (lambda c: c['categories'].append(dict(id=1, name='cat')), 'two categories of the id 1: dog and cat'),
    ],
)
def test_coco_files_that_contradict_themselves_are_refused(photos, change, said):
    content = dict(
        images=[dict(id=i, file_name=f'{i}.png', width=32, height=24) for i in range(12)],
        annotations=[dict(id=i, image_id=i, category_id=1, bbox=[2, 2, 9, 9]) for i in range(12)],
        categories=[dict(id=1, name='dog')],
    )
    (photos / 'a.json').write_text(json.dumps(content))
    assert len(read_boxes(photos / 'a.json').images) == 12
    change(content)
    (photos / 'a.json').write_text(json.dumps(content))
    with pytest.raises(UserError, match=said):
        read_boxes(photos / 'a.json')


def test_yolo_classes_below_zero_and_images_that_all_are_broken_are_refused(photos):
    for number in range(12):
        (photos / f'{number}.txt').write_text('-1 0.5 0.5 0.2 0.2\n')
    (photos / 'data.yaml').write_text('names: [a, b]\n')
    with pytest.raises(UserError, match='12 objects in 12 text files .* have the class -1'):
        read_boxes(photos)
    for path in photos.glob('*.png'):
        path.write_bytes(b'no image')
    with pytest.raises(UserError, match='None of the 12 images can be read'):
        read_boxes(photos)


@pytest.mark.parametrize(
    ('arguments', 'said'),
    [
        (['--out', ''], 'it is empty'),
        (['--out', 'run'], 'is the folder of a run: choose another, such as run/encoder'),
        (['--out', 'encoder', '--size', '0', '64'], '0 is not a whole number'),
    ],
)
def test_an_export_goes_to_a_folder_of_its_own(tmp_path, monkeypatch, capsys, arguments, said):
    monkeypatch.chdir(tmp_path)
    (tmp_path / 'run').mkdir()
    for name in ('config.py', 'epoch_1.pth'):
        (tmp_path / 'run' / name).touch()
    with pytest.raises(SystemExit) as end:
        commands.main(['export', 'run', *arguments])
    assert end.value.code == 2 and said in capsys.readouterr().err


@pytest.mark.parametrize(
    ('text', 'said'),
    [
        ('{', 'does not describe the encoder beside it'),
        ('{"mae_toolkit": {}}', "does not describe .*KeyError: 'encoder'"),
        ('{"architecture": "resnet10t"}', "does not describe .*KeyError: 'input_size'"),
        ('{"architecture": "resnet10t", "model_args": 3}', 'does not describe'),
        ('{"architectures": ["ViTModel"]}', 'does not say what its encoder is'),
    ],
)
def test_a_folder_that_does_not_describe_its_encoder_is_refused(tmp_path, text, said):
    torch.save(timm.create_model('resnet10t').state_dict(), tmp_path / 'pytorch_model.bin')
    (tmp_path / 'config.json').write_text(text)
    with pytest.raises(UserError, match=said):
        load_encoder(tmp_path)
    other = tmp_path / 'resnet10t.pth'  # which that file does not describe
    other.write_bytes((tmp_path / 'pytorch_model.bin').read_bytes())
    assert load_encoder(other)[0].out_channels


def test_an_interrupted_trial_leaves_no_config_to_resume(photos, tmp_path, monkeypatch):
    def interrupt(*arguments):
        raise KeyboardInterrupt

    monkeypatch.undo()
    monkeypatch.setattr(planning, 'StepTimer', interrupt)
    given = dict(folder=photos, encoder='vit_tiny_patch16_224', out=tmp_path / 'run', size=32)
    with pytest.raises(KeyboardInterrupt):
        pretrain(**given)
    with pytest.raises(UserError, match='leave --resume out'):
        pretrain(**given, resume=True)
