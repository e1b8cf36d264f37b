"""Writing shards: whole, the same each time, and going on where a call was ended."""

import json

import numpy as np
import pytest
from PIL import Image

from mae_toolkit.datasets import ShardDataset
from mae_toolkit.datasets.shards import writer
from mae_toolkit.datasets.shards.writer import ShardSettings, make_shards
from mae_toolkit.errors import UserError
from shard_sets import encode, read_numbers
from tiny import refuse, run_here


@pytest.fixture
def folder(tmp_path):
    """Eleven pictures of two classes, one of them with a dot in its name, two of one stem."""
    for number in range(9):
        path = tmp_path / 'images' / f'class{number % 2}' / f'{number:02d}.png'
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(encode(number))
    (tmp_path / 'images' / 'class0' / 'a.b.png').write_bytes(encode(9))
    (tmp_path / 'images' / 'class0' / '00.bmp').write_bytes(encode(10, 'BMP'))
    return tmp_path / 'images'


def read_all(folder):
    return {path.name: path.read_bytes() for path in folder.iterdir() if path.suffix != '.npz'}


@pytest.mark.parametrize('kind', ['wds', 'lmdb'])
def test_every_image_is_in_a_shard(tmp_path, folder, kind):
    if kind == 'lmdb':
        pytest.importorskip('lmdb')
    settings = ShardSettings(str(folder), kind, shard_size=400, labels=True)
    made = make_shards(settings, tmp_path / 'out')
    dataset = ShardDataset(tmp_path / 'out', labels=True)
    assert sum(made.lengths.values()) == len(dataset) == 11 and len(dataset.shards) == len(made.lengths) > 2
    items = list(dataset)
    assert sorted(int(item['img'][0, 0, 0]) for item in items) == list(range(11))
    assert all(item['label'] == int('class1' in item['name']) for item in items)
    assert {item['name'].partition('/')[2] for item in items} >= {'class0/a_b.png', 'class1/01.png'}
    info = json.loads((tmp_path / 'out' / '_info.json').read_text())['splits']['train']
    assert info['num_samples'] == 11 and info['classes'] == ['class0', 'class1']
    assert not made.skipped and made.done == 11


def test_the_same_bytes_each_time_and_another_order_by_another_seed(tmp_path, folder):
    for name, seed in (('a', 0), ('b', 0), ('c', 1), ('d', None)):
        size = 900 if name != 'd' else 9000  # all in one, where neighbors of one stem would be one sample
        make_shards(ShardSettings(str(folder), shard_size=size, seed=seed), tmp_path / name)
    assert read_all(tmp_path / 'a') == read_all(tmp_path / 'b')
    orders = [read_numbers(ShardDataset(tmp_path / name)) for name in 'acd']
    assert orders[0] != orders[1] and orders[2] == [10, 0, 2, 4, 6, 8, 9, 1, 3, 5, 7]


def test_a_call_that_was_ended_goes_on(tmp_path, folder, monkeypatch):
    settings = ShardSettings(str(folder), shard_size=400)
    make_shards(settings, tmp_path / 'whole')
    write, written = writer._write_shard, []

    def fail_at_third(out, *args):
        if len(written) == 2:
            raise KeyboardInterrupt
        written.append(args)
        write(out, *args)

    monkeypatch.setattr(writer, '_write_shard', fail_at_third)
    with pytest.raises(KeyboardInterrupt):
        make_shards(settings, tmp_path / 'parts')
    assert len(list((tmp_path / 'parts').glob('*.tar'))) == 2 and not (tmp_path / 'parts' / '_info.json').exists()
    (tmp_path / 'parts' / '.train-000002.tar.99.partial').write_bytes(b'half')
    stamps = {path: path.stat().st_mtime_ns for path in (tmp_path / 'parts').glob('*.tar')}
    monkeypatch.setattr(writer, '_write_shard', write)
    make_shards(settings, tmp_path / 'parts')
    assert read_all(tmp_path / 'parts') == read_all(tmp_path / 'whole')
    assert all(path.stat().st_mtime_ns == stamp for path, stamp in stamps.items())


def test_what_is_not_ours_is_not_overwritten(tmp_path, folder):
    (tmp_path / 'out').mkdir()
    (tmp_path / 'out' / 'train-000000.tar').write_bytes(b'mine')
    with pytest.raises(UserError, match='did not write'):
        make_shards(ShardSettings(str(folder)), tmp_path / 'out')
    assert (tmp_path / 'out' / 'train-000000.tar').read_bytes() == b'mine'
    make_shards(ShardSettings(str(folder)), tmp_path / 'other')
    with pytest.raises(UserError, match=r'other settings \(shard_size: 512000000 there, 5 now\)'):
        make_shards(ShardSettings(str(folder), shard_size=5), tmp_path / 'other')
    (folder / 'class0' / 'new.png').write_bytes(encode(11))
    with pytest.raises(UserError, match='of other images'):
        make_shards(ShardSettings(str(folder)), tmp_path / 'other')
    for inside in (folder, folder / 'shards'):
        with pytest.raises(UserError, match='among the images'):
            make_shards(ShardSettings(str(folder)), inside)


def test_larger_images_are_reduced_and_broken_ones_named(tmp_path):
    folder = tmp_path / 'images'
    folder.mkdir()
    noise = np.random.default_rng(0).integers(0, 255, (60, 90, 3), np.uint8)
    Image.fromarray(noise).save(folder / 'large.png')
    Image.fromarray(noise[:20, :25]).save(folder / 'small.png')
    np.save(folder / 'deep.npy', np.full((60, 60), 7, np.uint16))
    (folder / 'broken.png').write_bytes(encode(1)[:50])
    made = make_shards(ShardSettings(str(folder), short_side=30, seed=None), tmp_path / 'out')
    assert made.skipped == 1 and list(made.reasons) == ['broken.png']
    dataset = ShardDataset(tmp_path / 'out', channels=3)
    names = [dataset.name_image(i).partition('/')[2] for i in range(3)]
    assert names == ['deep.npy', 'large.jpg', 'small.png']
    assert [dataset.read_at(i).shape for i in range(3)] == [(60, 60, 3), (30, 45, 3), (20, 25, 3)]
    assert np.array_equal(dataset.read_at(2), noise[:20, :25])


def test_the_tool(tmp_path, folder):
    (folder / 'class0' / 'broken.png').write_bytes(b'')
    text = run_here('make_shards', folder, '--out', tmp_path / 'out', '--shard-size', '1KB', plain=True)
    assert '11 images in 2 shards, 1 broken image left out' in text and 'broken.png: the file is empty' in text
    for wrong in (('--shard-size', 'many'), ('--quality', '101'), ('--seed', '1')):
        assert wrong[1] in refuse('make_shards', folder, '--out', tmp_path / 'out', *wrong, plain=True)
