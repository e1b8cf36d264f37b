"""Outputs never replace devices, links, what was read, or what the tool did not write; browse_dataset for all tasks."""

import json
import os
import re
import runpy
import socket
import sys
from functools import partial

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file, save

from launching import ROOT
from mae_toolkit.apis import load_config
from mae_toolkit.apis.browsing import browse
from mae_toolkit.apis.image_notes import compare_with_weights
from mae_toolkit.apis.per_image import GrowingRecord, is_record
from mae_toolkit.codebook.patches import collect_training_patches
from mae_toolkit.errors import UserError
from mae_toolkit.export.export import _write
from mae_toolkit.files import atomic_write
from mae_toolkit.models.targets import CodebookTarget
from mae_toolkit.outputs import (
    check_output,
    check_output_folder,
    is_numbers,
    is_own_picture,
    is_own_weights,
    weights_mark,
    write_picture,
)
from mae_toolkit.visualization.predictions import add_legend

QUICKSTART = ROOT / 'configs' / 'pretrain' / 'quickstart.py'
TINY = ROOT / 'mae_toolkit' / 'data' / 'tiny'


def tool(monkeypatch, capsys, name, *arguments):
    """Run a tool in this process: (exit status, what it printed)."""
    monkeypatch.setattr(sys, 'argv', [name, *map(str, arguments)])
    try:
        runpy.run_path(str(ROOT / 'tools' / f'{name}.py'), run_name='__main__')
        status = 0
    except SystemExit as end:
        status = end.code
    said = capsys.readouterr()
    return status, said.out + said.err


@pytest.fixture
def files(tmp_path):
    """A checkpoint and a config that are read, and a file of somebody else."""
    torch.save({'state_dict': {'encoder.x': torch.zeros(3)}}, tmp_path / 'read.pth')
    (tmp_path / 'config.py').write_text(f"_base_ = '{QUICKSTART}'\n")
    (tmp_path / 'other.safetensors').write_bytes(b'years of work')
    return tmp_path


WRITERS = {
    'export_weights': lambda folder, out: [folder / 'read.pth', '--out', out],
    'import_weights': lambda folder, out: [folder / 'read.pth', folder / 'config.py', '--out', out],
    'make_codebook': lambda folder, out: [folder / 'config.py', '--out', out],
    'browse_dataset': lambda folder, out: [folder / 'config.py', '--out', out],
    'test': lambda folder, out: [folder / 'config.py', folder / 'read.pth', '--out', out],
    'benchmark': lambda folder, out: ['model', folder / 'config.py', '--json', out],
}
SUFFIX = {'browse_dataset': '.png', 'test': '.json', 'benchmark': '.json'}


def odd_outputs(folder, suffix):
    """Paths that no tool writes to, and what it says of each."""
    os.mkfifo(folder / f'pipe{suffix}')
    server = socket.socket(socket.AF_UNIX)
    server.bind(str(folder / f's{suffix}'))
    server.close()
    (folder / f'there{suffix}').write_bytes(b'years of work')
    (folder / f'link{suffix}').symlink_to(f'there{suffix}')
    (folder / f'dangling{suffix}').symlink_to('nowhere')
    (folder / f'device{suffix}').symlink_to('/dev/null')
    return {
        '/dev/null': 'is a device',
        '/dev/full': 'is a device',
        folder / f'device{suffix}': 'is a device',
        folder / f'pipe{suffix}': 'is a pipe',
        folder / f's{suffix}': 'is a socket',
        folder / f'there{suffix}': 'is there already',
        folder / f'link{suffix}': f'is a link to there{suffix}',
        folder / f'dangling{suffix}': 'is a link to nowhere',
    }


@pytest.mark.parametrize('name', WRITERS)
def test_no_tool_writes_where_it_should_not(files, monkeypatch, capsys, name):
    suffix = SUFFIX.get(name, '.safetensors')
    for out, words in odd_outputs(files, suffix).items():
        before = {path.name: path.lstat().st_ino for path in files.iterdir()}
        status, said = tool(monkeypatch, capsys, name, *WRITERS[name](files, out))
        assert status == 2 and words in said and 'Traceback' not in said, (out, said)
        assert {path.name: path.lstat().st_ino for path in files.iterdir()} == before
        assert (files / f'there{suffix}').read_bytes() == b'years of work'


@pytest.mark.parametrize('name', ['export_weights', 'import_weights'])
def test_what_was_read_is_not_replaced_not_even_by_force(files, monkeypatch, capsys, name):
    (files / 'folder').mkdir()
    os.link(files / 'read.pth', files / 'hard.pth')
    content = (files / 'read.pth').read_bytes()
    for out in ('read.pth', 'folder/../read.pth', 'hard.pth'):
        arguments = WRITERS[name](files, f'{files}/{out}')
        for options in ([], ['--force']):
            status, said = tool(monkeypatch, capsys, name, *arguments, *options)
            assert status == 2 and 'which is read: write to another file' in said
    assert (files / 'read.pth').read_bytes() == content


def test_with_force_a_file_or_a_link_is_replaced_and_what_the_link_points_to_is_not(tmp_path):
    (tmp_path / 'there').write_text('years of work')
    (tmp_path / 'link').symlink_to('there')
    check_output(tmp_path / 'link', force=True)
    atomic_write(tmp_path / 'link', 'new')
    assert (tmp_path / 'there').read_text() == 'years of work' and not (tmp_path / 'link').is_symlink()
    check_output(tmp_path / 'there', force=True)
    check_output(tmp_path / 'new', inputs=(None, tmp_path / 'there', tmp_path / 'nowhere'))
    with pytest.raises(UserError, match='is a device'):
        check_output('/dev/null', force=True)


def test_tools_know_what_they_wrote(tmp_path):
    write_picture(tmp_path / 'a.png', Image.new('P', (4, 4)), 'predict')
    Image.new('RGB', (4, 4)).save(tmp_path / 'b.png')
    (tmp_path / 'link.png').symlink_to('a.png')
    owned = {name: is_own_picture(tmp_path / name, 'predict') for name in ('a.png', 'b.png', 'link.png', 'none.png')}
    assert owned == {'a.png': True, 'b.png': False, 'link.png': False, 'none.png': False}
    assert not is_own_picture(tmp_path / 'a.png', 'reconstruct')
    assert 'wrote' in _write({'x': torch.ones(2)}, tmp_path / 'a.safetensors')
    (tmp_path / 'b.safetensors').write_bytes(save({'x': torch.ones(2)}))
    (tmp_path / 'c.safetensors').write_bytes(b'')
    assert is_own_weights(tmp_path / 'a.safetensors', 'export_weights')
    assert not any(is_own_weights(tmp_path / f'{name}.safetensors', 'export_weights') for name in 'bc')
    torch.save({'state_dict': {}, 'meta': weights_mark('import_weights')}, tmp_path / 'a.pth')
    torch.save({'state_dict': {}}, tmp_path / 'b.pth')
    (tmp_path / 'c.pth').write_bytes((tmp_path / 'a.pth').read_bytes().replace(b'PK\1\2', b'PK\1\3'))
    assert [is_own_weights(tmp_path / f'{name}.pth', 'import_weights') for name in 'abc'] == [True, False, False]
    assert weights_mark('x') != weights_mark('y')
    assert load_file(tmp_path / 'a.safetensors')['x'].tolist() == [1, 1]  # the mark disturbs no reader
    for text, own in (('{"a": 0.5, "b": null}', True), ('[1]', False), ('{"a": "x"}', False), ('{', False)):
        (tmp_path / 'n.json').write_text(text)
        assert is_numbers(tmp_path / 'n.json') is own
    with GrowingRecord(tmp_path / 'r.json', {'task': 'x'}) as record:
        record.add({'image': 'a'})
    assert is_record(tmp_path / 'r.json', 'task') and not is_record(tmp_path / 'n.json', 'task')


def test_a_tool_may_run_twice_with_the_same_output(files, monkeypatch, capsys):
    arguments = ('browse_dataset', QUICKSTART, '--rows', 1, '--columns', 1, '--out', files / 'b.png')
    for _ in range(2):
        status, said = tool(monkeypatch, capsys, *arguments)
        assert status == 0 and 'wrote' in said
    Image.new('RGB', (4, 4)).save(files / 'b.png')
    status, said = tool(monkeypatch, capsys, *arguments)
    assert status == 2 and 'with --force' in said
    status, said = tool(monkeypatch, capsys, *arguments, '--force')
    assert status == 0 and is_own_picture(files / 'b.png', 'browse_dataset')
    status, said = tool(monkeypatch, capsys, 'browse_dataset', QUICKSTART, '--out', files / 'b.gif2')
    assert status == 2 and 'the name must end in .png' in said


def test_folders_keep_the_files_of_others(tmp_path):
    own = partial(is_own_picture, tool='predict')
    out = tmp_path / 'out'
    check_output_folder(out, ['a.png'], False, own)
    out.mkdir()
    write_picture(out / 'a.png', Image.new('RGB', (4, 4)), 'predict')
    (out / 'notes.txt').write_text('of another')
    check_output_folder(out, ['a.png', 'b.png'], False, own)
    (out / 'b.png').write_bytes(b'years of work')
    with pytest.raises(UserError, match=r'holds 1 file that this tool did not write and would replace, such as b.png'):
        check_output_folder(out, ['a.png', 'b.png'], False, own)
    check_output_folder(out, ['a.png', 'b.png'], True, own)
    (out / 'c.png').mkdir()
    with pytest.raises(UserError, match='holds a folder c.png'):
        check_output_folder(out, ['c.png'], True, own)
    for path, words in ((out / 'b.png', 'is a file'), ('/dev/null', 'is a device')):
        with pytest.raises(UserError, match=words):
            check_output_folder(path, ['a.png'], True, own)


def test_the_table_is_written_into_no_link(tmp_path, monkeypatch, capsys):
    (tmp_path / 'README.md').write_text('no marks')
    (tmp_path / 'link.md').symlink_to('README.md')
    for path, words in ((tmp_path / 'link.md', 'is a link'), ('/dev/null', 'is a device')):
        status, said = tool(monkeypatch, capsys, 'compatibility', '--write', path)
        assert status == 2 and words in said


@pytest.mark.slow
@pytest.mark.parametrize(
    ('config', 'data', 'package'),
    [
        ('detection/faster-rcnn_convnextv2-a_500s_bccd.py', 'bccd', 'mmdet'),
        ('detection/mask-rcnn_convnextv2-a_500s_dsb2018.py', 'dsb2018', 'mmdet'),
        ('segmentation/fcn_convnextv2-a_500s_dsb2018.py', 'dsb2018', 'mmseg'),
    ],
)
def test_browse_draws_boxes_masks_and_labels(config, data, package):
    pytest.importorskip(package, reason=f'{package} is not installed')
    places = {f'{split}_dataloader.dataset.data_root': f'{TINY}/{data}/' for split in ('train', 'val')}
    cfg = load_config(ROOT / 'configs' / config, places)
    if package == 'mmseg':  # whose datasets make up colors where there are none, also of the background
        cfg.train_dataloader.dataset.metainfo.pop('palette')
    rows, count, broken, colors = browse(cfg, False, 2, 2)
    assert count > 2 and not broken and [len(row) for row in rows] == [2, 2]
    again, *_ = browse(cfg, False, 2, 2)
    for row, same in zip(rows, again, strict=True):
        assert row[0].shape == row[1].shape
        assert all(np.array_equal(a, b) for a, b in zip(row, same, strict=True))
    saturated = [(picture.max(-1).astype(int) - picture.min(-1) > 180).mean() for picture in rows[0]]
    white = [(picture == 255).all(-1).mean() for picture in rows[0]]
    assert max(saturated) > 0.01 or max(white) > 0.01  # lines in the colors of the classes
    assert any(map(any, colors.values())) and not any(colors.get('background', ()))
    sheet = Image.new('RGB', (400, 100))
    assert add_legend(sheet, colors).height > 100 and add_legend(sheet, {}) is sheet
    held_out, *_ = browse(cfg, True, 1, 1)
    assert held_out[0][0].ndim == 3


def test_browse_says_which_dataset_is_missing():
    cfg = load_config(QUICKSTART)
    for split, held_out, words in (('val', True, 'leave out --val'), ('train', False, 'with --val')):
        with pytest.raises(UserError, match=words):
            browse({k: v for k, v in cfg.items() if k != f'{split}_dataloader'}, held_out, 1, 1)


def test_broken_images_among_those_that_are_shown_or_clustered_are_named(tmp_path, capsys):
    for i in range(3):
        Image.fromarray(np.random.default_rng(i).integers(0, 255, (16, 16, 3), np.uint8)).save(tmp_path / f'{i}.png')
    (tmp_path / '1.png').write_bytes(b'no image')
    dataset = {'type': 'ImageDataset', 'data_root': str(tmp_path), 'pipeline': []}
    cfg = load_config(QUICKSTART)
    cfg.train_dataloader.dataset = dataset
    broken = browse(cfg, False, 3, 2).broken
    assert broken == [('1.png', 'its content is not of a known image format')]
    cfg.model.data_preprocessor = None
    collect_training_patches(cfg, CodebookTarget(8, num_codes=4), 3, 9)
    assert 'stands in for it: 1.png: its content' in capsys.readouterr().err


def test_numbers_are_written_over_numbers(tmp_path):
    (tmp_path / 'n.json').write_text(json.dumps({'accuracy': 0.5}))
    check_output(tmp_path / 'n.json', is_own=is_numbers)
    (tmp_path / 'n.json').write_text(json.dumps({'images': []}))
    with pytest.raises(UserError, match='is there already'):
        check_output(tmp_path / 'n.json', is_own=is_numbers)


@pytest.mark.slow
@pytest.mark.parametrize(
    ('config', 'data', 'package'),
    [
        ('detection/faster-rcnn_convnextv2-a_500s_bccd.py', 'bccd', 'mmdet'),
        ('segmentation/fcn_convnextv2-a_500s_dsb2018.py', 'dsb2018', 'mmseg'),
    ],
)
def test_labeled_images_unlike_those_of_the_weights_are_told_of(capsys, config, data, package):
    pytest.importorskip(package, reason=f'{package} is not installed')
    cfg = load_config(ROOT / 'configs' / config, {'train_dataloader.dataset.data_root': f'{TINY}/{data}/'})
    cfg.model.data_preprocessor.update(mean=[3.0, 3.0, 3.0], std=[1.0, 1.0, 1.0])
    said = compare_with_weights(cfg)
    assert 'those that the encoder was trained with, 3 and 1:' in said
    own = re.search(r'mean=([\d.,]+) model\.data_preprocessor\.std=([\d.,]+)', said)
    mean, std = ([float(value) for value in values.split(',') if value] for values in own.groups())
    cfg.model.data_preprocessor.update(mean=mean, std=std)
    assert compare_with_weights(cfg) is None
    assert not capsys.readouterr().out
