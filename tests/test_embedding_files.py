"""Files of embeddings: each format gives back what it was given, and says what it cannot read."""

import csv
import json
import os
import sys

import numpy as np
import pytest
import torch

from mae_toolkit.errors import UserError
from mae_toolkit.evaluation.embeddings import Embeddings, read_embeddings, write_embeddings
from mae_toolkit.evaluation.embeddings.files import check_suffix, is_embeddings

SUFFIXES = ('.npz', '.parquet', '.csv', '.pt')
# A comma, quotes, line breaks of all kinds, a space at the end, a letter beyond ASCII, and bytes that are no UTF-8.
ODD = ('a,b.png', 'say "x".png', 'two\nlines.png', 'mac\rline.png', 'dos\r\nline.png', 'end .png ', 'é.png', '#1.png')
NAMES = (*ODD, os.fsdecode(b'caf\xe9.png'), "it's.png")


def need(suffix):
    if suffix == '.parquet':
        pytest.importorskip('pyarrow', reason="pyarrow is not installed: pip install -e '.[embed]'")


def make_embeddings(names=NAMES, width=7):
    """Embeddings with numbers of all sizes, drawn as bits."""
    rng = np.random.default_rng(0)
    bits = rng.integers(0, 1 << 32, (len(names), width), np.uint32).view(np.float32)
    bits = np.where(np.isfinite(bits), bits, np.float32(0.1))
    features = {'level1.mean': rng.normal(size=(len(names), 3)).astype(np.float32), 'level2.mean': bits}
    sizes = rng.integers(1, 5000, (len(names), 2))
    return Embeddings(tuple(names), features, sizes, {'bad\n.png': 'it, is "empty"'}, {'key': {'encoder': 'abc'}})


@pytest.mark.parametrize('suffix', SUFFIXES)
def test_a_file_gives_back_names_numbers_sizes_and_notes(tmp_path, suffix):
    need(suffix)
    made, path = make_embeddings(), tmp_path / f'features{suffix}'
    write_embeddings(made, path)
    found = read_embeddings(path)
    assert found.names == made.names and found.skipped == made.skipped
    assert found.about['key'] == made.about['key'] and np.array_equal(found.sizes, made.sizes)
    kept = ['level2.mean'] if suffix == '.csv' else ['level1.mean', 'level2.mean']
    assert list(found.features) == kept and found.default == made.default
    for name in kept:
        assert found[name].dtype == np.float32
        assert np.array_equal(found[name].view(np.uint32), made[name].view(np.uint32))  # bit by bit
    assert is_embeddings(path)


@pytest.mark.parametrize('suffix', SUFFIXES)
def test_a_file_without_images_is_read(tmp_path, suffix):
    need(suffix)
    write_embeddings(make_embeddings(names=()), tmp_path / f'none{suffix}')
    found = read_embeddings(tmp_path / f'none{suffix}')
    assert len(found) == 0 and found['level2.mean'].shape == (0, 7) and found.sizes.shape == (0, 2)


def test_the_formats_are_those_of_lightly_train_and_of_numpy(tmp_path):
    made = make_embeddings()
    for suffix in ('.npz', '.csv', '.pt'):
        write_embeddings(made, tmp_path / f'a{suffix}')
    with np.load(tmp_path / 'a.npz') as file:
        assert file['filenames'].tolist() == list(NAMES) and np.array_equal(file['embeddings'], made['level2.mean'])
        assert np.array_equal(file['level1.mean'], made['level1.mean'])
    content = torch.load(tmp_path / 'a.pt', weights_only=True)
    assert content['filenames'] == list(NAMES) and content['embeddings'].shape == (len(NAMES), 7)
    with open(tmp_path / 'a.csv', encoding='utf-8', errors='surrogateescape', newline='') as file:
        rows = list(csv.reader(file))
    assert rows[0] == ['filename', *(f'embedding_{i}' for i in range(7))]
    assert [row[0] for row in rows[1:]] == list(NAMES)


@pytest.mark.slow
def test_a_million_numbers_are_the_same_after_csv(tmp_path):
    made = make_embeddings([f'{i}.png' for i in range(1000)], width=1000)
    write_embeddings(made, tmp_path / 'a.csv')
    found = read_embeddings(tmp_path / 'a.csv')
    assert np.array_equal(found['level2.mean'].view(np.uint32), made['level2.mean'].view(np.uint32))


def test_parquet_has_plain_columns(tmp_path):
    parquet = pytest.importorskip('pyarrow.parquet', reason="pyarrow is not installed: pip install -e '.[embed]'")
    made = make_embeddings()
    write_embeddings(made, tmp_path / 'a.parquet')
    table = parquet.read_table(tmp_path / 'a.parquet')
    assert table.column_names == ['filename', 'height', 'width', 'level1.mean', 'level2.mean']
    shown = table['filename'].to_pylist()
    assert shown[:8] == list(ODD) and shown[8] == 'caf\\xe9.png'
    assert np.array_equal(np.array(table['level1.mean'].to_pylist(), np.float32), made['level1.mean'])


def test_without_pyarrow_parquet_is_refused_and_nothing_else(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, 'pyarrow', None)
    for act in (check_suffix, lambda path: write_embeddings(make_embeddings(), path)):
        with pytest.raises(UserError, match=r"pip install -e '\.\[embed\]', or choose \.npz, \.csv or \.pt"):
            act(tmp_path / 'a.parquet')
    assert not list(tmp_path.iterdir())
    write_embeddings(make_embeddings(), tmp_path / 'a.npz')
    assert is_embeddings(tmp_path / 'a.npz')


def test_other_files_are_refused_in_one_sentence(tmp_path):
    (tmp_path / 'empty.npz').touch()
    (tmp_path / 'text.npz').write_text('no archive')
    np.savez(tmp_path / 'others.npz', a=np.zeros(3))
    np.savez(tmp_path / 'pickled.npz', filenames=np.array([{}], dtype=object))
    whole = tmp_path / 'whole.npz'
    write_embeddings(make_embeddings(), whole)
    (tmp_path / 'half.npz').write_bytes(whole.read_bytes()[:-100])
    (tmp_path / 'a.pt').write_text('no checkpoint')
    torch.save([1, 2], tmp_path / 'b.pt')
    (tmp_path / 'a.csv').write_text('filename,embedding_0\na.png,1\n')
    write_embeddings(make_embeddings(), tmp_path / 'b.csv')
    (tmp_path / 'b.csv').write_text('filename,embedding_0\na.png,1\n')
    for path in tmp_path.iterdir():
        if path.suffix != '.json' and path != whole:
            with pytest.raises(UserError, match='holds no embeddings of ours .*make it with mae-toolkit embed'):
                read_embeddings(path)
            assert not is_embeddings(path)
    with pytest.raises(UserError, match=r'ending in \.npz, \.parquet, \.csv, \.pt'):
        read_embeddings(tmp_path / 'b.csv.json')
    with pytest.raises(UserError, match='There is no file'):
        read_embeddings(tmp_path / 'missing.npz')
    with pytest.raises(UserError, match=r'written into files ending in \.npz'):
        check_suffix('features.txt')


def test_a_csv_beside_the_description_of_another_is_not_read(tmp_path):
    """A run that is killed between the two files leaves the new description beside the old vectors."""
    path, beside = tmp_path / 'a.csv', tmp_path / 'a.csv.json'
    write_embeddings(make_embeddings(), path)
    old = path.read_bytes()
    made = make_embeddings()
    changed = {name: values * 0.5 for name, values in made.features.items()}
    write_embeddings(Embeddings(made.names, changed, made.sizes, about={'key': {'encoder': 'other'}}), path)
    assert json.loads(beside.read_text())['about']['key'] == {'encoder': 'other'}
    path.write_bytes(old)
    with pytest.raises(UserError, match=r'a\.csv\.json describes another file'):
        read_embeddings(path)


def test_names_of_vectors_are_looked_up():
    made = make_embeddings()
    assert np.array_equal(made.choose(), made['level2.mean']) and made.default == 'level2.mean'
    with pytest.raises(UserError, match=r"no vectors 'level2.meen'; did you mean level2\.mean"):
        made['level2.meen']
    assert repr(made).startswith(f'Embeddings({len(NAMES)} images, ') and 'level2.mean (' in repr(made)
    assert len(repr(made)) < 500  # without the numbers
    chosen = made.select([3, 0])
    assert chosen.names == (NAMES[3], NAMES[0]) and np.array_equal(chosen['level1.mean'], made['level1.mean'][[3, 0]])


def test_labels_are_the_first_folders():
    made = make_embeddings(['cat/1.png', 'dog/deep/2.png'])
    assert made.labels() == ['cat', 'dog']
    with pytest.raises(UserError, match=r'3\.png lies in no class folder'):
        make_embeddings(['cat/1.png', '3.png']).labels()
