"""The string that names weights, ``[FORMAT:]FILE[#PART]``: what it finds, and what it refuses, in one sentence."""

import os
import re

import pytest
import torch

from hub import REVISION, put_into_cache
from mae_toolkit.checkpoints.hub_cache import parse_timm_name
from mae_toolkit.checkpoints.names import FORMATS
from mae_toolkit.checkpoints.source import WeightsSource, find_source
from mae_toolkit.errors import UserError
from mae_toolkit.planning.encoders import make_absolute


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """The current folder, with a file of weights."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr('huggingface_hub.constants.HF_HUB_CACHE', str(tmp_path / 'cache'))
    torch.save({'x': torch.ones(1)}, tmp_path / 'a.pth')
    return tmp_path


def read(text):
    source = find_source(text)
    return str(source.path), source.format, source.part


@pytest.mark.parametrize(
    ('text', 'found'),
    [
        ('a.pth', ('a.pth', '', '')),
        ('timm:a.pth', ('a.pth', 'timm', '')),
        ('a.pth#teacher.backbone', ('a.pth', '', 'teacher.backbone')),
        ('mae:a.pth#teacher', ('a.pth', 'mae', 'teacher')),
        ('a.pth#a#b', ('a.pth', '', 'a#b')),
    ],
)
def test_format_file_and_part(folder, text, found):
    source = find_source(text)
    assert read(text) == found and find_source(source) is source


@pytest.mark.parametrize('name', ['mae:a.pth', 'b#teacher', 'x:y#z.pth', 'a.pth#teacher', 'timm:a.pth#x'])
def test_an_existing_file_of_this_very_name_wins(folder, name):
    (folder / name).touch()
    assert read(name) == (name, '', '')
    assert read(f'{name}#part') == (name, '', 'part')


def test_a_drive_of_windows_is_no_format(folder):
    with pytest.raises(UserError, match=r'There is no checkpoint C:\\weights\.pth: give the path'):
        find_source('C:\\weights.pth')


def test_a_tilde_is_the_home_of_the_user(folder, monkeypatch):
    monkeypatch.setenv('HOME', str(folder))
    assert find_source('timm:~/a.pth#x') == WeightsSource(folder / 'a.pth', 'timm', 'x')


@pytest.mark.parametrize('file', ['model.safetensors', 'pytorch_model.bin'])
def test_a_folder_of_hugging_face(folder, file):
    (folder / 'encoder').mkdir()
    (folder / 'encoder' / file).touch()
    assert read('encoder#x') == (f'encoder/{file}', '', 'x')


def test_the_folder_of_a_run(folder):
    (folder / 'run').mkdir()
    (folder / 'run' / 'config.py').touch()
    torch.save({'x': torch.ones(1)}, folder / 'run' / 'best_knn.pth')
    assert read('run') == ('run/best_knn.pth', '', '')


@pytest.mark.parametrize(
    ('text', 'repository', 'file'),
    [
        ('timm:convnextv2_tiny.fcmae', 'timm/convnextv2_tiny.fcmae', 'model.safetensors'),
        ('timm:convnextv2_tiny.fcmae.safetensors', 'timm/convnextv2_tiny.fcmae', 'model.safetensors'),
        ('timm:timm/convnextv2_tiny.fcmae', 'timm/convnextv2_tiny.fcmae', 'pytorch_model.bin'),
        ('timm:vit_base_patch16_224', 'timm/vit_base_patch16_224.augreg2_in21k_ft_in1k', 'model.safetensors'),
        ('timm:newer.than_this_timm', 'timm/newer.than_this_timm', 'model.safetensors'),
    ],
)
def test_weights_of_timm_in_the_cache_of_hugging_face(folder, text, repository, file):
    path = put_into_cache(folder / 'cache', repository, file)
    assert find_source(f'{text}#x') == WeightsSource(path, 'timm', 'x')
    assert make_absolute(f'{text}#x') == f'{text}#x'  # which is found from any folder
    assert make_absolute(os.path.relpath(path)) == str(path)  # not the file behind the link, which has no suffix


@pytest.mark.parametrize(
    ('text', 'name'),
    [
        ('timm:convnextv2_tiny.fcmae', ('convnextv2_tiny', 'fcmae')),
        ('timm:timm/convnextv2_tiny.fcmae#x', ('convnextv2_tiny', 'fcmae')),
        ('photos.2024/convnextv2_tiny.fcmae.safetensors#a.b', ('convnextv2_tiny', 'fcmae')),
        ('timm:/a#b/vit_base_patch16_224.mae.pth', ('vit_base_patch16_224', 'mae')),
        ('vit_base_patch16_224', ('vit_base_patch16_224', '')),
        (
            f'/c/models--timm--convnextv2_tiny.fcmae/snapshots/{REVISION}/model.safetensors',
            ('convnextv2_tiny', 'fcmae'),
        ),
        ('/c/models--timm--convnextv2_tiny.fcmae/model.safetensors', ('model', '')),
        ('mae_pretrain_vit_base.pth', ('mae_pretrain_vit_base', '')),
        ('', ('', '')),
    ],
)
def test_names_of_timm_are_architecture_and_tag(text, name):
    assert parse_timm_name(text) == name


def test_a_path_that_is_not_there_is_not_looked_for_by_its_name(folder):
    put_into_cache(folder / 'cache', 'timm/convnextv2_tiny.fcmae', 'model.safetensors')
    with pytest.raises(UserError, match='There is no file photos/convnextv2_tiny.fcmae'):
        find_source('timm:photos/convnextv2_tiny.fcmae')


@pytest.mark.parametrize(
    ('text', 'said'),
    [
        ('b.pth', 'There is no checkpoint b.pth: give the path of a .pth or .safetensors file.'),
        ('b.pth#teacher', 'There is no checkpoint b.pth: '),
        ('dinov:b.pth', "There is no file dinov:b.pth, and 'dinov' is no format of weights"),
        ('crosmae:b.pth', 'did you mean crossmae'),
        ('timm:convnextv2_tiny.fcmae', 'get it by `hf download timm/convnextv2_tiny.fcmae model.safetensors`'),
        ('timm:convnextv2_tiny.fcma', 'timm has no weights of this name: the nearest are convnextv2_tiny.fcmae'),
        ('timm:convnextv3', 'timm.list_pretrained() lists those that it has'),
        ('timm:b.pth', 'There is no file b, and timm has no weights of this name'),
        ('timm:../b', 'There is no file ../b'),
        ('https://x.org/b.pth?x=1#y', 'nothing is downloaded: get the file by `curl -LO https://x.org/b.pth?x=1#y`'),
        ('s3://bucket/b.pth', 'is an address, and nothing is downloaded'),
        ('hf://facebook/dinov2-base/model.safetensors', '`hf download facebook/dinov2-base model.safetensors'),
        ('hf-hub:timm/x.y', '`hf download timm/x.y model.safetensors'),
        ('https://huggingface.co/a/b/resolve/main/model.safetensors', '`hf download a/b model.safetensors'),
        ('facebook/vit-mae-base', '`hf download facebook/vit-mae-base --local-dir FOLDER`'),
        ('config.py', 'config.py is a config, not weights: give a .pth or .safetensors file, or the folder of a run.'),
        ('empty', 'empty is neither the folder of a run nor one with model.safetensors; it holds nothing: '),
        ('photos', 'it holds 2 other files (1.jpg, 2.jpg): '),
        ('shards', 'shards holds weights in several files, which are not read'),
        ('', 'There is no checkpoint'),
        ('#x', 'There is no checkpoint'),
        ('a\0b', 'There is no checkpoint'),
        ('x' * 5000, 'There is no checkpoint'),
    ],
)
def test_what_is_no_file_of_weights_is_refused_in_one_sentence(folder, text, said):
    for name in ('empty', 'photos/1.jpg', 'photos/2.jpg', 'shards/model.safetensors.index.json', 'config.py'):
        path = folder / name
        path.parent.mkdir(exist_ok=True)
        path.touch() if path.suffix else path.mkdir()
    with pytest.raises(UserError) as refusal:
        find_source(text)
    assert said in str(refusal.value) and '\n' not in str(refusal.value) and len(str(refusal.value)) < 400


def test_words_of_formats_are_words():
    assert all(re.fullmatch(r'[a-z][a-z0-9-]+', form.word) for form in FORMATS)
