"""mae-toolkit embed: a file that grows, goes on where it stopped, and holds for one encoder and unchanged images."""

import os
import shutil
from functools import cache as cache_calls

import numpy as np
import pytest

from mae_toolkit import commands, load_encoder
from mae_toolkit.apis import embedding
from mae_toolkit.apis.embedding import embed
from mae_toolkit.errors import UserError
from mae_toolkit.evaluation.embeddings import Embeddings, FeatureExtractor, cache, read_embeddings, write_embeddings
from test_export_folder import ENCODERS
from test_load_encoder import write_run
from tiny import ROOT

BCCD = sorted((ROOT / 'mae_toolkit' / 'data' / 'tiny' / 'bccd' / 'images').glob('*.jpg'))
SUFFIXES = ('.npz', '.parquet', '.csv', '.pt')


@pytest.fixture
def photos(tmp_path):
    """Ten photos, in two folders."""
    for i, path in enumerate(BCCD[:10]):
        copy = tmp_path / 'photos' / 'ab'[i % 2] / path.name
        copy.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(path, copy)
    return tmp_path / 'photos'


@pytest.fixture(scope='module')
def weights(tmp_path_factory):
    """A run, and a function that loads a run once."""
    folder = tmp_path_factory.mktemp('weights') / 'run'
    write_run(folder, ENCODERS['ConvNeXt'])
    return folder, cache_calls(load_encoder)


@pytest.fixture
def run(weights, monkeypatch):
    monkeypatch.setattr(embedding, 'load_encoder', weights[1])
    return weights[0]


@pytest.fixture
def encoded(monkeypatch):
    """The images that have been encoded since it was cleared, with parts of four images."""
    names = []
    whole = FeatureExtractor.embed

    def embed_and_note(self, items, chosen, *options):
        names.extend(chosen)
        return whole(self, items, chosen, *options)

    monkeypatch.setattr(FeatureExtractor, 'embed', embed_and_note)
    monkeypatch.setattr(cache, 'PART', 4)
    return names


def equal(found, expected):
    assert found.names == expected.names and list(found.features) == list(expected.features)
    assert np.array_equal(found.sizes, expected.sizes) and found.skipped == expected.skipped
    for name, values in expected.features.items():
        np.testing.assert_allclose(found[name], values, rtol=1e-5, atol=1e-5)


def interrupt_after(monkeypatch, calls):
    """Let the encoding of a part end like a process that is killed."""
    whole, made = FeatureExtractor.embed, []

    def fail_later(self, *arguments):
        if len(made) == calls:
            raise KeyboardInterrupt
        made.append(0)
        return whole(self, *arguments)

    monkeypatch.setattr(FeatureExtractor, 'embed', fail_later)


@pytest.mark.parametrize('suffix', SUFFIXES)
def test_images_are_encoded_once(run, photos, tmp_path, encoded, suffix):
    if suffix == '.parquet':
        pytest.importorskip('pyarrow', reason="pyarrow is not installed: pip install -e '.[embed]'")
    out = tmp_path / f'features{suffix}'
    expected = embed(run, photos)
    encoded.clear()
    first = embed(run, photos, out)
    assert len(encoded) == 10 and len(first) == 10
    assert first.names == expected.names
    np.testing.assert_allclose(first.choose(), expected.choose(), rtol=1e-5, atol=1e-5)
    encoded.clear()
    second = embed(run, photos, out)
    assert not encoded
    equal(second, first)
    equal(read_embeddings(out), first)
    assert {path.name for path in tmp_path.iterdir()} - {'photos', out.name} <= {f'{out.name}.json'}


@pytest.mark.parametrize('parts', [0, 1, 2])
def test_an_interrupted_run_goes_on_where_it_stopped(run, photos, tmp_path, encoded, monkeypatch, parts):
    out = tmp_path / 'features.npz'
    expected = embed(run, photos)
    with monkeypatch.context() as patch:
        interrupt_after(patch, parts)
        with pytest.raises(KeyboardInterrupt):
            embed(run, photos, out)
    assert not out.exists()
    folder = tmp_path / '.features.npz.parts'
    assert len(list(folder.glob('*.npz'))) == parts
    encoded.clear()
    equal(embed(run, photos, out), expected)
    assert len(encoded) == 10 - 4 * parts and not folder.exists()


def test_a_damaged_part_is_made_again_and_other_files_stay(run, photos, tmp_path, encoded, monkeypatch):
    out, folder = tmp_path / 'features.npz', tmp_path / '.features.npz.parts'
    with monkeypatch.context() as patch:
        interrupt_after(patch, 2)
        with pytest.raises(KeyboardInterrupt):
            embed(run, photos, out)
    last = sorted(folder.glob('*.npz'))[-1]
    last.write_bytes(last.read_bytes()[:-200])
    (folder / 'mine.txt').write_text('of a user')
    encoded.clear()
    found = embed(run, photos, out)
    assert len(encoded) == 10 - 4
    equal(found, embed(run, photos))
    assert (folder / 'mine.txt').exists() and last in folder.iterdir()  # nobody knows what that is


def test_a_kill_between_the_last_part_and_the_file_costs_nothing(run, photos, tmp_path, encoded, monkeypatch):
    out = tmp_path / 'features.csv'

    def fail(*arguments):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(cache.EmbeddingCache, '_assemble', fail)
        with pytest.raises(KeyboardInterrupt):
            embed(run, photos, out)
    encoded.clear()
    assert len(embed(run, photos, out)) == 10 and not encoded


def test_changed_new_and_removed_images(run, photos, tmp_path, encoded):
    out = tmp_path / 'features.npz'
    embed(run, photos, out)
    shutil.copy(BCCD[20], photos / 'a' / 'new.jpg')
    shutil.copy(BCCD[21], photos / 'b' / BCCD[1].name)
    (photos / 'a' / BCCD[0].name).unlink()
    encoded.clear()
    found = embed(run, photos, out)
    assert sorted(encoded) == ['a/new.jpg', f'b/{BCCD[1].name}']
    equal(found, embed(run, photos))
    assert f'a/{BCCD[0].name}' not in read_embeddings(out).names


def test_another_file_with_the_size_and_time_of_the_first_is_encoded(run, tmp_path, encoded):
    """As arrays have that were unpacked from one archive: the files of one folder are not those of another."""
    for i, folder in enumerate('ab'):
        (tmp_path / folder).mkdir()
        np.save(tmp_path / folder / '1.npy', np.full((8, 8, 3), 99 * i, np.uint8))
        os.utime(tmp_path / folder / '1.npy', (1e9, 1e9))
    first = embed(run, tmp_path / 'a', tmp_path / 'features.npz')
    second = embed(run, tmp_path / 'b', tmp_path / 'features.npz')
    assert encoded == ['1.npy', '1.npy'] and not np.allclose(first.choose(), second.choose())


def test_a_file_that_was_changed_and_restored_has_its_own_vectors(run, photos, tmp_path, encoded, monkeypatch):
    """The part that was made in between holds rows that no longer hold."""
    out, changed = tmp_path / 'features.npz', photos / 'a' / BCCD[0].name
    stamps = {changed: '1'}
    monkeypatch.setattr(cache, 'stamp', lambda path: stamps.get(path, '0'))
    expected, before = embed(run, photos, out), changed.read_bytes()
    stamps[changed] = '2'
    changed.write_bytes(BCCD[30].read_bytes())
    for i in range(5):
        shutil.copy(BCCD[20 + i], photos / 'a' / f'new{i}.jpg')
    with monkeypatch.context() as patch:
        interrupt_after(patch, 1)
        with pytest.raises(KeyboardInterrupt):
            embed(run, photos, out)
    stamps[changed] = '1'
    changed.write_bytes(before)
    found = embed(run, photos, out)
    row = found.names.index(f'a/{BCCD[0].name}')
    np.testing.assert_array_equal(found.choose()[row], expected.choose()[expected.names.index(found.names[row])])


def test_other_weights_sizes_and_poolings_are_another_file(run, photos, tmp_path, encoded):
    out = tmp_path / 'features.npz'
    write_run(tmp_path / 'other', ENCODERS['ConvNeXt V2'])
    for source, options in ((run, {}), (tmp_path / 'other', {}), (run, {'size': 32}), (run, {'poolings': ['max']})):
        encoded.clear()
        found = embed(source, photos, out, **options)
        assert len(encoded) == 10
        equal(found, embed(source, photos, **options))
    encoded.clear()
    embed(run, photos, out, poolings=['max'], batch_size=3)
    assert not encoded


def test_broken_images_are_skipped_and_tried_again(run, photos, tmp_path, encoded):
    out, bad = tmp_path / 'features.npz', photos / 'a' / 'bad.jpg'
    for i in range(5):
        (photos / 'a' / f'0{i}.jpg').write_text('broken')  # a whole part of them
    bad.write_text('broken')
    found = embed(run, photos, out)
    assert len(found) == 10 and len(found.skipped) == 6 and len(read_embeddings(out).skipped) == 6
    shutil.copy(BCCD[20], bad)
    (photos / 'a' / '00.jpg').unlink()
    encoded.clear()
    found = embed(run, photos, out)
    assert len(found) == 11 and set(found.skipped) == {f'a/0{i}.jpg' for i in (1, 2, 3, 4)}
    assert set(encoded) == {'a/bad.jpg', *found.skipped}


def test_if_all_are_broken_nothing_is_written(run, tmp_path, encoded):
    (tmp_path / 'photos').mkdir()
    for i in range(9):
        (tmp_path / 'photos' / f'{i}.jpg').write_text('broken')
    with pytest.raises(UserError, match=r'None of 9 images can be read; 0\.jpg: '):
        embed(run, tmp_path / 'photos', tmp_path / 'features.npz')
    assert [path.name for path in tmp_path.iterdir()] == ['photos']


def test_one_image_and_files_of_any_name(run, tmp_path):
    name = os.fsdecode(b'caf\xe9, "1"\n.jpg')
    shutil.copy(BCCD[0], tmp_path / name)
    for suffix in ('.npz', '.csv', '.pt'):
        out = tmp_path / f'features{suffix}'
        assert embed(run, tmp_path / name, out).names == (str(tmp_path / name),)
        assert embed(run, [tmp_path / name], out).names == read_embeddings(out).names == (str(tmp_path / name),)


def test_the_file_may_lie_among_the_images(run, photos, encoded):
    out = photos / 'features.npz'  # a suffix of images, too
    first = embed(run, photos, out)
    encoded.clear()
    second = embed(run, photos, out)
    assert len(first) == 10 and not encoded and not second.skipped
    equal(second, first)


def test_nothing_of_others_is_replaced(run, photos, tmp_path):
    np.savez(photos / 'image.npz', np.zeros((8, 8, 3), np.uint8))
    with pytest.raises(UserError, match='which is read: write to another file'):
        embed(run, photos, photos / 'image.npz', force=True)
    (tmp_path / 'features.npz').write_text('of a user')
    (tmp_path / 'features.csv.json').write_text('of a user')
    for name in ('features.npz', 'features.csv'):
        with pytest.raises(UserError, match='is there already, and this tool did not write it'):
            embed(run, photos, tmp_path / name)
    assert (tmp_path / 'features.csv.json').read_text() == 'of a user'
    assert len(embed(run, photos, tmp_path / 'features.npz', force=True)) == 11
    with pytest.raises(UserError, match='for images in files alone'):
        embed(run, np.zeros((8, 8, 3), np.uint8), tmp_path / 'other.npz')
    with pytest.raises(UserError, match='written into files ending in'):
        embed(run, photos, tmp_path / 'features.txt')


def test_what_the_file_says(run, photos, tmp_path):
    about = embed(run, photos, tmp_path / 'features.npz').about
    assert about['source'] == str(run) and about['key']['preparation']['size'] == [64, 48]
    assert set(about['stamps']) == set(read_embeddings(tmp_path / 'features.npz').names)


def test_the_command(run, photos, tmp_path, capsys, monkeypatch):
    (photos / 'bad.jpg').write_text('broken')
    out = tmp_path / 'features.npz'
    arguments = ['embed', str(run), str(photos), '--out', str(out), '--poolings', 'mean', 'gem', '--levels', '1', '4']
    commands.main(arguments)
    said = capsys.readouterr().out
    assert 'level1.mean           6 numbers' in said and 'level4.gem           12 numbers' in said
    assert f'10 images in {out}' in said and '1 image skipped: bad.jpg (' in said
    assert list(read_embeddings(out).features) == ['level1.mean', 'level1.gem', 'level4.mean', 'level4.gem']
    for wrong, sentence in ((['--levels', '5'], 'no level 5'), (['--out', 'a.txt'], 'ending in .npz')):
        with pytest.raises(SystemExit) as ended:
            commands.main([*arguments, *wrong])
        assert ended.value.code == 2 and sentence in capsys.readouterr().err


def test_parts_of_one_key_alone_are_joined(tmp_path):
    made = Embeddings(('a.png',), {'level1.mean': np.ones((1, 2), np.float32)}, np.ones((1, 2), int))
    part = Embeddings(made.names, made.features, made.sizes, about={'key': {'encoder': 'x'}, 'stamps': {'a.png': ''}})
    write_embeddings(part, tmp_path / '.out.npz.parts' / '000000.npz')
    calls = []

    def make(paths, names, advance):
        calls.append(names)
        return made

    missing = [tmp_path / 'a.png']
    cache.EmbeddingCache(tmp_path / 'out.npz', {'encoder': 'y'}).extend(['a.png'], missing, make)
    assert calls == [['a.png']]
    cache.EmbeddingCache(tmp_path / 'out.npz', {'encoder': 'y'}).extend(['a.png'], missing, make)
    assert calls == [['a.png']]
