"""Images in shards: which there are, how they are read, and what is said of those that are damaged."""

import json
import os
import pickle
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from mae_toolkit.datasets import ImageDataset, ShardDataset
from mae_toolkit.datasets.shards import index as indexes
from mae_toolkit.datasets.shards.held_out import count_kept, find_kept
from mae_toolkit.datasets.shards.listing import expand_braces
from mae_toolkit.datasets.shards.members import Member, group_members, split_name
from mae_toolkit.engine.classes import check_number_of_classes
from mae_toolkit.errors import UserError
from shard_sets import PIPELINE, encode, make_tars, read_numbers, write_tar


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    """No test writes into the cache of the user."""
    monkeypatch.setenv('XDG_CACHE_HOME', str(tmp_path / 'xdg'))


def fill(folder, numbers):
    """The same pictures as a folder of files."""
    for number in numbers:
        path = folder / f'{number:04d}.png'
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(encode(number))
    return folder


# --- which shards there are


def test_braces():
    assert expand_braces('a-{08..10}.tar') == ['a-08.tar', 'a-09.tar', 'a-10.tar']
    assert expand_braces('{a,b}/{0..1}.tar') == ['a/0.tar', 'a/1.tar', 'b/0.tar', 'b/1.tar']
    assert expand_braces('plain.tar') == ['plain.tar']
    for wrong, words in (('a-{00..10.tar', 'brace'), ('a-{10..08}.tar', 'backwards')):
        with pytest.raises(UserError, match=words):
            expand_braces(wrong)


def test_ways_to_name_shards(tmp_path):
    paths = [str(path) for path in make_tars(tmp_path / 'set')]
    ways = [
        tmp_path / 'set',
        f'{tmp_path}/set/train-{{0000..0003}}.tar',
        f'{tmp_path}/set/train-*.tar',
        paths,
        '::'.join(paths),
        [f'file://{path}' for path in paths],
    ]
    for way in ways:
        dataset = ShardDataset(way)
        assert [shard.url for shard in dataset.shards] == paths
        assert read_numbers(dataset) == list(range(18))
    for wrong in ([], '', tmp_path, f'{tmp_path}/set/no-*.tar', paths[:1] * 2, 5):
        with pytest.raises(UserError):
            ShardDataset(wrong)
    with pytest.raises(UserError, match=r'train-0004\.tar'):
        ShardDataset(f'{tmp_path}/set/train-{{0000..0004}}.tar')


def test_splits_of_timms_sets(tmp_path):
    make_tars(tmp_path, info=True)
    content = json.loads((tmp_path / '_info.json').read_text())
    content['splits']['validation'] = {'filenames': ['train-0003.tar'], 'shard_lengths': [6], 'num_samples': 6}
    (tmp_path / '_info.json').write_text(json.dumps(content))
    assert read_numbers(ShardDataset(tmp_path, split='validation')) == list(range(12, 18))
    assert len(ShardDataset(tmp_path / '_info.json', split='train')) == 18
    with pytest.raises(UserError, match='train, validation'):
        ShardDataset(tmp_path)
    with pytest.raises(UserError, match="no split 'test'"):
        ShardDataset(tmp_path, split='test')
    (tmp_path / '_info.json').write_text('{"splits": {"train": {}}}')
    with pytest.raises(UserError, match='filenames'):
        ShardDataset(tmp_path)


# --- which images they hold


def test_names_of_members():
    assert split_name('a.b/dog.seg.PNG') == ('a.b/dog', 'seg.png')
    assert split_name('dog') == ('dog', '')
    assert split_name('a/._dog.jpg')[0] == ''


def group(*names):
    return [(sample.key, sample.image and sample.image.name) for sample in group_members(map(Member, names))]


def test_members_of_a_sample():
    assert group('1.jpg', '1.cls', '2.cls', '2.jpg') == [('1', '1.jpg'), ('2', '2.jpg')]
    assert group('1.seg.png', '1.jpg', '1.json') == [('1', '1.jpg')]  # a further picture is not the image
    assert group('1.seg.png') == [('1', '1.seg.png')]
    assert group('1.cls', '2.jpg', 'README', '._3.jpg') == [('1', None), ('2', '2.jpg')]
    assert group('1.jpg', '2.jpg', '1.jpg', '1.jpg') == [(k, f'{k}.jpg') for k in '1211']  # nothing is lost
    assert group('1.mp3', '1.txt') == [('1', None)]


def test_tars_of_the_webdataset_package(tmp_path):
    webdataset = pytest.importorskip('webdataset')
    with webdataset.ShardWriter(f'{tmp_path}/wds-%04d.tar', maxcount=4, verbose=0) as writer:
        for number in range(10):
            sample = {'png': encode(number), 'cls': number % 3, 'json': {'label': 9, 'name': f'number {number}'}}
            writer.write({'__key__': f'set/{number:06d}'} | sample)
    dataset = ShardDataset(f'{tmp_path}/wds-{{0000..0002}}.tar', labels=True)
    assert dataset.shard_lengths.tolist() == [4, 4, 2]
    assert read_numbers(dataset) == list(range(10))
    assert [dataset[i]['label'] for i in range(10)] == [i % 3 for i in range(10)]
    assert dataset[5]['name'] == 'wds-0001.tar/set/000005.png'


def test_long_and_odd_names(tmp_path):
    names = ['x' * 150 + '/' + 'y' * 120 + '.png', 'ü b.png', b'\xfc.png'.decode('utf-8', 'surrogateescape')]
    write_tar(tmp_path / 'a.tar', [(name, encode(i)) for i, name in enumerate(names)])
    dataset = ShardDataset(tmp_path / 'a.tar')
    assert read_numbers(dataset) == [0, 1, 2]
    assert [dataset.name_image(i) for i in range(3)] == [f'a.tar/{name}' for name in names]
    assert read_numbers(ShardDataset(tmp_path / 'a.tar')) == [0, 1, 2]  # from the index that is kept


def test_labels(tmp_path):
    members = [('a.png', encode(1)), ('a.json', b'{"label": 1}'), ('b.png', encode(2)), ('b.cls', b'0\n')]
    write_tar(tmp_path / 'a.tar', members)
    dataset = ShardDataset(tmp_path / 'a.tar', labels=True, classes=['cat', 'dog'])
    assert [dataset[i]['label'] for i in range(2)] == [1, 0] and dataset.metainfo == {'classes': ['cat', 'dog']}
    with pytest.raises(UserError, match=r'num_classes=3, and the images of the 1 shard .*a\.tar are of 2 classes'):
        check_number_of_classes(SimpleNamespace(num_classes=3), dataset)
    write_tar(tmp_path / 'b.tar', [*members, ('c.png', encode(3)), ('c.cls', b'dog')])
    with pytest.raises(UserError, match=r'b\.tar/c\.png has no class'):
        ShardDataset(tmp_path / 'b.tar', labels=True)[2]
    write_tar(tmp_path / 'c.tar', [('c.png', encode(3))])
    with pytest.raises(UserError, match=r'no classes.*\.cls'):
        ShardDataset(tmp_path / 'c.tar', labels=True)


# --- items are those of a folder


def test_items_equal_those_of_a_folder(tmp_path):
    make_tars(tmp_path / 'set', (5, 3))
    options = dict(pipeline=PIPELINE, seed=3, repeat=2)
    shards = ShardDataset(tmp_path / 'set', **options)
    folder = ImageDataset(fill(tmp_path / 'folder', range(8)), **options)
    assert len(shards) == len(folder) == 16
    for key in ((0, 0), (2, 7), (1, 13)):
        assert torch.equal(shards[key]['img'], folder[key]['img'])
    with pytest.raises(IndexError):
        shards[16]


@pytest.mark.parametrize('hold_out', [2, -2, 3, -3, 7, -7, -100])
def test_held_out_images_are_those_of_a_folder(tmp_path, hold_out):
    make_tars(tmp_path / 'set')
    folder = ImageDataset(fill(tmp_path / 'folder', range(18)), hold_out=hold_out)
    assert read_numbers(ShardDataset(tmp_path / 'set', hold_out=hold_out)) == read_numbers(folder)


def test_held_out_images_by_arithmetic():
    for step in (1, 2, 3, 5):
        for first in range(7):
            for hold_out in (step, -step):
                kept = [k for k in range(9) if ((first + k) % step == 0) == (hold_out < 0)]
                assert count_kept(first, 9, hold_out) == len(kept)
                assert [find_kept(first, number, hold_out) for number in range(len(kept))] == kept


def test_nothing_left_is_refused(tmp_path):
    make_tars(tmp_path)
    with pytest.raises(UserError, match='hold_out=1 leaves none'):
        ShardDataset(tmp_path, hold_out=1)
    with pytest.raises(UserError, match='hold_out=0'):
        ShardDataset(tmp_path, hold_out=0)
    write_tar(tmp_path / 'empty.tar', [])
    with pytest.raises(UserError, match='0 images'):
        ShardDataset(tmp_path / 'empty.tar')


@pytest.mark.process
def test_another_process_opens_files_itself(tmp_path):
    make_tars(tmp_path)
    dataset = ShardDataset(tmp_path, PIPELINE)
    want = dataset[1, 2]['img']
    copy = pickle.loads(pickle.dumps(dataset))
    assert torch.equal(copy[1, 2]['img'], want)
    process = os.fork()
    if not process:
        os._exit(0 if torch.equal(dataset[1, 2]['img'], want) else 1)
    assert os.waitstatus_to_exitcode(os.waitpid(process, 0)[1]) == 0
    assert read_numbers(ShardDataset(tmp_path)) == list(range(18))


# --- the index


def test_an_index_is_kept_beside_the_shard(tmp_path, monkeypatch):
    (path,) = make_tars(tmp_path, (4,))
    first = ShardDataset(path)
    place = path.with_name(path.name + indexes.SUFFIX)
    assert place.is_file()
    monkeypatch.setattr('mae_toolkit.datasets.shards.collection.index_tar', lambda path: pytest.fail('read again'))
    again = ShardDataset(path)
    assert read_numbers(again) == read_numbers(first) and again.name_image(3) == first.name_image(3)


@pytest.mark.parametrize('damage', ['changed shard', 'damaged index', 'other version'])
def test_an_index_that_does_not_fit_is_made_again(tmp_path, damage, monkeypatch):
    (path,) = make_tars(tmp_path, (4,))
    ShardDataset(path)
    place = path.with_name(path.name + indexes.SUFFIX)
    if damage == 'changed shard':
        write_tar(path, [('z.png', encode(9))] * 4)
        os.utime(path, (1, 1))
    elif damage == 'damaged index':
        place.write_bytes(place.read_bytes()[:100])
    else:
        monkeypatch.setattr(indexes, 'VERSION', 99)
    want = [9] * 4 if damage == 'changed shard' else [0, 1, 2, 3]
    assert read_numbers(ShardDataset(path)) == want


def test_an_index_goes_to_the_cache_where_the_shard_may_not_be_written_beside(tmp_path, monkeypatch):
    (path,) = make_tars(tmp_path / 'set', (4,))
    write = indexes.atomic_write

    def refuse(place, content):
        if place.parent == path.parent:
            raise PermissionError(place)
        write(place, content)

    monkeypatch.setattr(indexes, 'atomic_write', refuse)
    assert read_numbers(ShardDataset(path)) == [0, 1, 2, 3]
    assert list((tmp_path / 'xdg').rglob('*.index.npz')) and not list(path.parent.glob('*.npz'))


# --- damage


@pytest.fixture
def warnings(monkeypatch):
    """What is said at the start."""
    said = []
    monkeypatch.setattr(
        'mae_toolkit.datasets.shards.collection.print_log', lambda text, logger, level: said.append(text)
    )
    return said


def test_a_truncated_tar_is_named_and_used_up_to_the_cut(tmp_path, warnings):
    (path,) = make_tars(tmp_path, (6,))
    whole = ShardDataset(path)
    offsets = whole._collection.get_index(0).offsets
    content = path.read_bytes()
    path.write_bytes(content[: offsets[4] + 10])  # within the fifth image
    assert read_numbers(ShardDataset(path)) == [0, 1, 2, 3]
    (said,) = warnings
    assert str(path) in said and 'ends within its member n01/img_0004.png' in said and '4 images are used' in said
    warnings.clear()
    path.write_bytes(content[: offsets[4] - 512])  # between two samples: nothing shows it but the lacking end mark
    assert read_numbers(ShardDataset(path)) == [0, 1, 2, 3]
    (said,) = warnings
    assert 'was cut after its member n00/img_0003.cls' in said and 'no end mark' in said
    warnings.clear()
    damaged = bytearray(content)
    damaged[offsets[3] - 512 : offsets[3]] = bytes(range(256)) * 2  # a header in the middle
    path.write_bytes(damaged)
    assert read_numbers(ShardDataset(path)) == [0, 1, 2]
    (said,) = warnings
    assert str(path) in said and 'damaged after its member n02/img_0002.cls' in said


def test_samples_without_an_image_are_counted_and_named(tmp_path, warnings):
    write_tar(tmp_path / 'a.tar', [('1.png', encode(1)), ('2.cls', b'0'), ('3.cls', b'0'), ('4.png', encode(4))])
    assert read_numbers(ShardDataset(tmp_path / 'a.tar')) == [1, 4]
    assert '2 samples without an image (2, 3)' in warnings[0]


def test_a_broken_image_is_replaced_and_named(tmp_path):
    write_tar(tmp_path / 'a.tar', [('1.png', encode(1)[:40]), ('2.png', b''), ('3.png', encode(3))])
    item = ShardDataset(tmp_path / 'a.tar')[0, 0]
    assert (item['img'] == 3).all()
    assert [name for name, _ in item['broken']] == ['a.tar/1.png', 'a.tar/2.png']
    assert item['broken'][1][1] == 'the file is empty'
    write_tar(tmp_path / 'b.tar', [('1.png', b'x'), ('2.png', b'x')])
    with pytest.raises(UserError, match=r'2 images in a row .*b\.tar whole\?'):
        ShardDataset(tmp_path / 'b.tar')[0]


@pytest.mark.parametrize(
    ('content', 'words'),
    [(b'\x1f\x8b' + bytes(600), 'compressed.*gzip'), (b'', 'empty'), (b'no tar' * 200, 'no tar')],
)
def test_files_that_are_no_tars_are_refused(tmp_path, content, words):
    (tmp_path / 'a.tar').write_bytes(content)
    with pytest.raises(UserError, match=f'a\\.tar .*{words}'):
        ShardDataset(tmp_path / 'a.tar')


def test_a_shard_without_permission_is_refused_before_anything_starts(tmp_path, monkeypatch):
    make_tars(tmp_path)
    monkeypatch.setattr(os, 'access', lambda path, mode: '0002' not in str(path))
    with pytest.raises(UserError, match=r'no permission .*1 shard of 4 .*train-0002\.tar'):
        ShardDataset(tmp_path)


# --- LMDB


def make_lmdb(path, entries, subdir=True):
    lmdb = pytest.importorskip('lmdb')
    path.parent.mkdir(parents=True, exist_ok=True)
    with lmdb.open(str(path), map_size=1 << 24, subdir=subdir) as environment, environment.begin(write=True) as writer:
        for key, value in entries:
            writer.put(key.encode(), value)
    return path


LAYOUTS = {
    'of this toolkit': [(f'n{i % 2}/{i:02d}.png', encode(i)) for i in range(6)]
    + [(f'n{i % 2}/{i:02d}.cls', str(i % 2).encode()) for i in range(6)],
    'raw keys': [(f'{i:08d}', encode(i)) for i in range(6)] + [('__len__', b'6'), ('length', b'6'), ('__keys__', b'x')],
    'image-%09d': [(f'image-{i:09d}', encode(i)) for i in range(6)] + [('num-samples', b'6')],
}


@pytest.mark.parametrize('subdir', [True, False])
@pytest.mark.parametrize('layout', LAYOUTS)
def test_lmdb(tmp_path, layout, subdir, warnings):
    path = make_lmdb(tmp_path / 'a.lmdb', LAYOUTS[layout], subdir)
    dataset = ShardDataset(path, labels=layout == 'of this toolkit')
    assert sorted(read_numbers(dataset)) == list(range(6)) and not warnings
    assert ShardDataset(path).name_image(1) == dataset.name_image(1)
    if dataset.metainfo:
        assert {(int(item['img'][0, 0, 0]) % 2, item['label']) for item in dataset} == {(0, 0), (1, 1)}


@pytest.mark.process
def test_two_datasets_of_one_lmdb_in_two_processes(tmp_path):
    path = make_lmdb(tmp_path / 'a.lmdb', LAYOUTS['raw keys'])
    train, val = ShardDataset(path, hold_out=3), ShardDataset(path, hold_out=-3)
    assert read_numbers(train) == [1, 2, 4, 5] and read_numbers(val) == [0, 3]
    process = os.fork()
    if not process:
        os._exit(0 if read_numbers(train) == [1, 2, 4, 5] and read_numbers(val) == [0, 3] else 1)
    assert os.waitstatus_to_exitcode(os.waitpid(process, 0)[1]) == 0
    assert read_numbers(train) == [1, 2, 4, 5]


def test_no_lmdb_is_refused(tmp_path):
    pytest.importorskip('lmdb')
    (tmp_path / 'a.lmdb').write_bytes(b'no lmdb' * 2000)
    with pytest.raises(UserError, match=r'a\.lmdb cannot be opened as an LMDB'):
        ShardDataset(tmp_path / 'a.lmdb')


def test_tars_and_lmdbs_together(tmp_path):
    make_tars(tmp_path, (3,))
    make_lmdb(tmp_path / 'b.lmdb', [(f'{i}.png', encode(i)) for i in (7, 8)])
    assert read_numbers(ShardDataset([tmp_path / 'b.lmdb', tmp_path / 'train-0000.tar'])) == [7, 8, 0, 1, 2]
    assert np.array_equal(ShardDataset(tmp_path).read_at(0), np.full((20, 30, 3), 7, np.uint8))
