"""The dataset: which images there are, and that an item depends on seed, epoch and index alone."""

import json
import os
from types import SimpleNamespace

import numpy as np
import pytest
import tifffile
import torch
from mmengine.runner import Runner
from PIL import Image
from torch.utils.data import DataLoader

from engine_toys import make_runner
from mae_toolkit.apis.predict import predict_images
from mae_toolkit.datasets import ImageDataset, ImageLimits, image_collate
from mae_toolkit.datasets.image_files import find_images, list_images
from mae_toolkit.datasets.image_pipeline import convert_channels
from mae_toolkit.datasets.path_list import PathList
from mae_toolkit.errors import UserError
from mae_toolkit.models.preprocessor import ImagePreprocessor

PIPELINE = [dict(type='RandomResizedCrop', size=(16, 24)), dict(type='RandomFlip')]


@pytest.fixture
def pack(root):
    """The images that come with the repository."""
    return root / 'mae_toolkit' / 'data' / 'tiny'


@pytest.fixture
def folder(tmp_path):
    """Six small pictures in a tree, named by their order and filled with their number."""
    (tmp_path / 'b').mkdir()
    for i, name in enumerate(['a.PNG', 'b/a b.png', 'b/ü.png', 'c.png', 'd.png', 'e.png']):
        Image.fromarray(np.full((20, 30, 3), 10 * i, np.uint8)).save(tmp_path / name)
    return tmp_path


def refused(*words, **kwargs):
    with pytest.raises(UserError) as caught:
        list_images(**kwargs)
    for word in words:
        assert str(word) in str(caught.value)


# --- which images there are


def test_folder_tree(folder):
    (folder / '.hidden.png').write_bytes(b'')
    (folder / 'notes.txt').write_text('no image')
    (folder / '.cache').mkdir()
    (folder / '.cache' / 'x.png').write_bytes(b'')
    assert list_images(folder) == ['a.PNG', 'b/a b.png', 'b/ü.png', 'c.png', 'd.png', 'e.png']
    assert list_images(folder, layout='imagenet', split='b') == ['b/a b.png', 'b/ü.png']


def test_links_are_followed_and_loops_end(folder, tmp_path_factory):
    elsewhere = tmp_path_factory.mktemp('elsewhere')
    (elsewhere / 'z.jpg').write_bytes(b'')
    os.symlink(elsewhere, folder / 'link')
    os.symlink(folder, folder / 'b' / 'loop')
    os.symlink(folder / 'a.PNG', folder / 'f.png')
    names = list_images(folder)
    assert 'link/z.jpg' in names and 'f.png' in names and len(names) == 8


def test_list(folder):
    (folder / 'list.txt').write_text('\ufeff# chosen\nc.png\n\n b/ü.png \n', encoding='utf-8')
    assert list_images(folder, 'list.txt') == ['c.png', 'b/ü.png']
    assert list_images(folder, str(folder / 'list.txt')) == ['c.png', 'b/ü.png']
    (folder / 'list.txt').write_bytes('\xfc.png\n'.encode('latin-1'))  # a file name need not be UTF-8
    assert os.fsencode(list_images(folder, 'list.txt')[0]) == b'\xfc.png'


@pytest.mark.parametrize('encoding', ['utf-8', 'utf-8-sig', 'utf-16', 'utf-32'])
@pytest.mark.parametrize('end', ['\n', '\r\n', '\r'])
def test_lists_of_all_encodings_and_ends_of_lines(folder, encoding, end):
    text = end.join(['# chosen', 'c.png', '', ' b/ü.png\t', 'b/a b.png'])
    (folder / 'list.txt').write_bytes(text.encode(encoding))
    assert list_images(folder, 'list.txt') == ['c.png', 'b/ü.png', 'b/a b.png']


def test_what_ends_no_line_is_a_part_of_a_name(folder):
    names = ['a\x0bb.png', 'a\x1cb.png', 'a\x85b.png', 'a\u2028b.png']
    (folder / 'list.txt').write_text('\n'.join(names))
    assert list_images(folder, 'list.txt') == names


def test_a_line_is_a_comment_if_it_names_no_file(folder):
    for name in ('#1.png', '# 2.png'):
        os.link(folder / 'c.png', folder / name)
    (folder / 'list.txt').write_text('#1.png\n# 2.png\n#3.png\n#1.png class\n# 2.png class\n')
    assert list_images(folder, 'list.txt') == ['#1.png', '# 2.png', '#1.png class', '# 2.png class']


def test_lists_that_are_no_text_are_refused(folder):
    for content in ('c.png\n'.encode('utf-16-le'), b'c.png\0\n', 'c.png'.encode('utf-16')[:-1]):
        (folder / 'list.txt').write_bytes(content)
        refused('list.txt', 'save it as UTF-8', data_root=folder, ann_file='list.txt')


def test_folders_that_cannot_be_read_are_named(folder, monkeypatch):
    scan, said = os.scandir, []

    def scandir(path):
        if os.path.basename(path) in ('b', 'lost+found'):
            raise PermissionError(13, 'Permission denied', str(path))
        return scan(path)

    (folder / 'lost+found').mkdir()
    monkeypatch.setattr(os, 'scandir', scandir)
    monkeypatch.setattr('mae_toolkit.datasets.image_files.print_log', lambda text, *_: said.append(text))
    assert list_images(folder) == ['a.PNG', 'c.png', 'd.png', 'e.png']
    assert len(said) == 1 and f'1 folder below {folder} cannot be read' in said[0]
    assert f'{folder / "b"}: Permission denied' in said[0]


def test_files_among_loops_of_links_are_found_once(folder):
    os.symlink('loop.png', folder / 'loop.png')
    os.symlink('..', folder / 'b' / 'up')
    found = find_images([folder / '**' / '*.png'])
    assert found == [folder / name for name in ('b/a b.png', 'b/ü.png', 'c.png', 'd.png', 'e.png', 'loop.png')]
    assert find_images([folder / 'e.png', folder])[:2] == [folder / 'e.png', folder / 'a.PNG']
    predictor = SimpleNamespace(task='none', classes=[], limits=ImageLimits())
    with pytest.raises(UserError, match='The only image could not be read: .*loop.png'):
        predict_images(predictor, [folder / 'loop.png'], folder / 'out')
    for path in ('x' * 300 + '.png', 'no.png'):
        with pytest.raises(UserError, match='no image or folder'):
            find_images([folder / path])


def test_coco(folder):
    (folder / 'ann.json').write_text(json.dumps({'images': [{'file_name': 'ü.png', 'id': 1}], 'annotations': []}))
    assert list_images(folder, 'ann.json', split='b') == ['b/ü.png']
    assert list_images(folder, 'ann.json') == ['ü.png']


@pytest.mark.parametrize('diff_rank_seed', [False, True])
def test_order_and_augmentation_follow_from_the_seed_of_the_run(pack, tmp_path, diff_rank_seed):
    def first_batch(run_seed, name, **own):
        loader = dict(
            batch_size=4,
            num_workers=0,
            dataset=dict(type='ImageDataset', data_root=str(pack), ann_file='train.txt', pipeline=PIPELINE, **own),
            sampler=dict(type='EpochSampler'),
            collate_fn=dict(type='mae_toolkit.image_collate'),
        )
        randomness = {'seed': run_seed, 'diff_rank_seed': diff_rank_seed}
        runner = make_runner(tmp_path / name, train_dataloader=loader, randomness=randomness)
        return next(iter(runner.build_dataloader(loader)))

    a, again, other, own = (
        *(first_batch(seed, f'{i}') for i, seed in enumerate((1, 1, 2))),
        first_batch(1, 'own', seed=5),
    )
    assert a['names'] == again['names'] and torch.equal(a['imgs'], again['imgs'])
    assert a['names'] != other['names']
    assert a['names'] == own['names'] and not torch.equal(a['imgs'], own['imgs'])  # what is named is kept


def test_refusals(folder):
    nowhere = folder / 'nowhere'
    refused(nowhere, 'data_root', data_root=nowhere)
    refused(folder / 'a.PNG', data_root=folder / 'a.PNG')
    refused(folder / 'train', "split='train'", data_root=folder, layout='imagenet', split='train')
    refused("'imagnet'", 'imagenet', data_root=folder, layout='imagnet')
    refused(folder / 'no.txt', data_root=folder, ann_file='no.txt')
    refused('ann_file', data_root=folder, layout='list')
    refused('ann_file', data_root=folder, layout='coco')
    refused("split='b'", 'split=None', data_root=folder, ann_file='list.txt', split='b')
    for layout in ('folder', 'imagenet'):
        refused(layout, "'list.txt'", 'ann_file=None', data_root=folder, ann_file='list.txt', layout=layout)
    (folder / 'empty').mkdir()
    refused(folder / 'empty', '.png', '.tif', data_root=folder / 'empty')
    (folder / 'empty.txt').write_text('# nothing\n')
    refused(folder / 'empty.txt', 'no images', data_root=folder, ann_file='empty.txt')


@pytest.mark.parametrize(
    'text',
    [
        '{',
        '[]',
        '{}',
        '{"images": [1]}',
        '{"images": [{"id": 1}]}',
        '\0',
        '{"images": [{"file_name": 5}]}',
        '{"images": [{"file_name": "\\ud800"}]}',
    ],
)
def test_refusals_of_coco(folder, text):
    (folder / 'ann.json').write_text(text)
    refused('ann.json', 'images[].file_name', data_root=folder, ann_file='ann.json')


def test_names_survive_packing():
    names = ['a', 'ü b', '', 'x' * 300, b'\xfc.png'.decode('utf-8', 'surrogateescape')]
    packed = PathList(names)
    assert [packed[i] for i in range(len(packed))] == names


# --- items


def test_an_item(folder):
    dataset = ImageDataset(folder)
    item = dataset[0, 4]
    assert item['name'] == 'd.png' and item['broken'] == []
    assert item['img'].dtype == torch.uint8 and item['img'].shape == (3, 20, 30) and item['img'].is_contiguous()
    assert (item['img'] == 40).all()
    assert len(dataset) == 6 and len(list(dataset)) == 6  # a loop over it ends
    with pytest.raises(IndexError):
        dataset[0, 6]
    with pytest.raises(IndexError):
        dataset[-1]


def test_items_depend_on_seed_epoch_and_index_alone(pack):
    def items(seed, order):
        dataset = ImageDataset(pack, PIPELINE, ann_file='val.txt', seed=seed)
        return {key: dataset[key]['img'] for key in order}

    keys = [(epoch, index) for epoch in (0, 3) for index in (0, 1, 5)]
    want, other_order = items(7, keys), items(7, keys[::-1])
    assert all(torch.equal(want[key], other_order[key]) for key in keys)
    assert not torch.equal(want[0, 1], want[3, 1])
    assert not torch.equal(want[0, 1], items(8, keys)[0, 1])
    dataset = ImageDataset(pack, PIPELINE, ann_file='val.txt', seed=7)
    assert torch.equal(dataset[1]['img'], want[0, 1])


@pytest.mark.process
def test_workers_make_no_difference(pack):
    def batches(workers):
        cfg = dict(
            batch_size=6,
            num_workers=workers,
            sampler=dict(type='mae_toolkit.EpochSampler'),
            collate_fn=dict(type='mae_toolkit.image_collate'),
            dataset=dict(type='mae_toolkit.ImageDataset', data_root=str(pack), ann_file='val.txt', pipeline=PIPELINE),
        )
        loader = Runner.build_dataloader(cfg, seed=0)
        loader.sampler.set_epoch(2)
        return list(loader)

    for a, b in zip(batches(0), batches(2), strict=True):
        assert a['names'] == b['names'] and torch.equal(a['imgs'], b['imgs'])


def test_repeat_gives_other_crops_of_the_same_images(pack):
    dataset = ImageDataset(pack, PIPELINE, ann_file='val.txt', repeat=3)
    n = len(ImageDataset(pack, ann_file='val.txt'))
    assert len(dataset) == 3 * n
    first, second = dataset[0, 2], dataset[0, 2 + n]
    assert first['name'] == second['name'] and not torch.equal(first['img'], second['img'])


def test_hold_out_splits(pack):
    every = set(list_images(pack, 'train.txt'))
    held = ImageDataset(pack, ann_file='train.txt', hold_out=-10)
    kept = ImageDataset(pack, ann_file='train.txt', hold_out=10)
    names = [{d.names[i] for i in range(len(d.names))} for d in (held, kept)]
    assert names[0] | names[1] == every and not names[0] & names[1] and len(names[0]) == -(-len(every) // 10)
    with pytest.raises(UserError, match='hold_out=1 leaves none of 96'):
        ImageDataset(pack, ann_file='train.txt', hold_out=1)
    for wrong in (0, 2.5, True, '10', float('nan'), float('inf')):
        with pytest.raises(UserError, match=f'hold_out={wrong!r} must be None or a whole number'):
            ImageDataset(pack, ann_file='train.txt', hold_out=wrong)


@pytest.mark.parametrize('name', ['channels', 'repeat', 'max_tries', 'seed'])
@pytest.mark.parametrize('wrong', [-1, 2.5, True, '3', None, float('nan'), float('inf')])
def test_counts_are_whole_numbers(pack, name, wrong):
    with pytest.raises(UserError, match=f'^{name}={wrong!r} must be '):
        ImageDataset(pack, ann_file='train.txt', **{name: wrong})


@pytest.mark.parametrize('shape', [(3, 48, 64), (1, 48, 64), (4, 20, 30)])
def test_arrays_with_channels_first_are_recognized(folder, shape):
    np.save(folder / 'a.npy', np.zeros(shape, np.float32))
    (folder / 'list.txt').write_text('a.npy\n')
    dataset = ImageDataset(folder, PIPELINE, ann_file='list.txt')
    rows, columns, channels = shape
    for read in (lambda: dataset[0], lambda: dataset.read('a.npy')):
        with pytest.raises(UserError) as caught:
            read()
        said = str(caught.value)
        assert f'is read as {rows} rows, {columns} columns and {channels} channels' in said
        assert f'meant as (C, H, W), {rows} channels of {columns} rows, save it as (H, W, C)' in said
    np.save(folder / 'a.npy', np.zeros((48, 64, 8), np.float32))
    with pytest.raises(UserError, match='has 8 channels, but the dataset expects channels=3: set channels=8'):
        dataset[0]


def test_repeat_of_nothing_is_refused(pack):
    with pytest.raises(UserError, match='repeat=0'):
        ImageDataset(pack, ann_file='train.txt', repeat=0)


def test_broken_images_are_replaced_and_reported(folder):
    (folder / 'b' / 'ü.png').write_bytes(b'')
    (folder / 'c.png').write_bytes((folder / 'c.png').read_bytes()[:50])
    item = ImageDataset(folder)[0, 2]
    assert item['name'] == 'd.png' and (item['img'] == 40).all()
    assert [name for name, _ in item['broken']] == ['b/ü.png', 'c.png']
    assert item['broken'][0][1] == 'the file is empty'
    (folder / 'e.png').unlink()
    dataset = ImageDataset(folder)
    (folder / 'd.png').unlink()  # it vanishes while the run goes on
    assert dataset[0, 4]['name'] == 'a.PNG'  # and the search begins again at the start


def test_too_many_broken_images_stop(folder):
    for path in folder.rglob('*.[pP]*'):
        path.write_bytes(b'')
    with pytest.raises(UserError, match=r'3 images in a row .*b/a b.png \(the file is empty\).*c.png'):
        ImageDataset(folder, max_tries=2)[0, 1]
    with pytest.raises(UserError, match='6 images in a row'):
        ImageDataset(folder)[0, 1]  # none is tried twice


# --- channels


def test_channels():
    gray, color = np.full((2, 3, 1), 7, np.uint16), np.full((2, 3, 3), 200, np.uint8)
    assert convert_channels(gray, 3, 'x').shape == (2, 3, 3) and (convert_channels(gray, 3, 'x') == 7).all()
    alpha = np.concatenate([color, color[..., :1] * 0], axis=2)
    np.testing.assert_array_equal(convert_channels(alpha, 3, 'x'), color)
    np.testing.assert_array_equal(convert_channels(alpha[..., 2:], 1, 'x'), color[..., :1])
    np.testing.assert_array_equal(convert_channels(alpha[..., 2:], 3, 'x'), color)
    assert convert_channels(alpha, 4, 'x') is alpha
    color[0, 0] = (0, 255, 0)  # 149.685
    mean = convert_channels(color, 1, 'x')
    assert mean.dtype == np.uint8 and mean[0, 0, 0] == 150 and mean[1, 1, 0] == 200
    assert convert_channels(color.astype(np.float32) / 255, 1, 'x')[0, 0, 0] == pytest.approx(0.587)


@pytest.mark.parametrize('have, want', [(5, 3), (3, 5), (1, 4), (3, 4), (5, 1), (2, 5)])
def test_channels_that_do_not_fit(have, want):
    with pytest.raises(UserError) as caught:
        convert_channels(np.zeros((2, 2, have), np.uint8), want, 'pic.tif')
    for word in ('pic.tif', f'has {have} channels', f'channels={want}', f'in_chans={have}'):
        assert word in str(caught.value)


@pytest.mark.process
@pytest.mark.parametrize('dtype', [np.uint8, np.uint16, np.float32])
@pytest.mark.parametrize('workers', [0, 1])
def test_the_type_of_the_files_reaches_the_device(tmp_path, dtype, workers):
    images = (np.random.default_rng(0).random((4, 40, 30, 5)) * 200).astype(dtype)
    for i, image in enumerate(images):
        tifffile.imwrite(tmp_path / f'{i}.tif', image, photometric='minisblack', planarconfig='contig')
    dataset = ImageDataset(tmp_path, [dict(type='CenterCrop', size=(40, 30))], channels=5)
    batch = next(iter(DataLoader(dataset, 4, collate_fn=image_collate, num_workers=workers)))
    assert batch['imgs'].numpy().dtype == dtype
    np.testing.assert_array_equal(batch['imgs'].numpy(), images.transpose(0, 3, 1, 2))
    normal = ImagePreprocessor(mean=[100.0] * 5, std=[50.0] * 5)(batch)['imgs']
    assert normal.dtype == torch.float32
    np.testing.assert_allclose(normal.numpy(), (images.transpose(0, 3, 1, 2).astype(np.float32) - 100) / 50, rtol=1e-6)


# --- batches


def item(shape=(3, 4, 5), dtype=torch.uint8, name='a.png', broken=()):
    return {'img': torch.zeros(shape, dtype=dtype), 'name': name, 'broken': list(broken)}


def test_collate():
    batch = image_collate([item(broken=[('x', 'cut')]), item(name='b.png', broken=[('y', 'cut'), ('z', 'cut')])])
    assert batch['imgs'].shape == (2, 3, 4, 5) and batch['imgs'].dtype == torch.uint8
    assert batch['names'] == ['a.png', 'b.png']
    assert batch['broken'] == [('x', 'cut'), ('y', 'cut'), ('z', 'cut')]


def test_mixed_batches_are_refused():
    with pytest.raises(UserError, match=r'a.png .*\(3, 4, 5\) .*b.png \(3, 4, 6\).*RandomResizedCrop'):
        image_collate([item(), item((3, 4, 6), name='b.png')])
    with pytest.raises(UserError, match=r'a.png .*uint8 .*b.png uint16'):
        image_collate([item(), item(dtype=torch.uint16, name='b.png')])
