"""Masks and classes of images in the forms in which people have them: what is read, split and written."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from mae_toolkit.datasets import LabeledDataset
from mae_toolkit.datasets.labels.classes import prepare_classes, write_lists
from mae_toolkit.datasets.labels.mask_files import read_mask
from mae_toolkit.datasets.labels.mask_writer import write_masks
from mae_toolkit.datasets.labels.masks import prepare_masks, read_masks
from mae_toolkit.errors import UserError

ROOT = Path(__file__).resolve().parents[1]
TINY = ROOT / 'mae_toolkit' / 'data' / 'tiny'


def save(path, values=0, palette=False, side=8):
    """Write a picture that has some gray value, or one that has several from the top to the bottom."""
    path.parent.mkdir(parents=True, exist_ok=True)
    rows = np.array(values, np.uint8).reshape(-1, 1)
    picture = Image.fromarray(np.repeat(np.repeat(rows, side // len(rows) + 1, 0)[:side], side, 1))
    if palette:
        picture.putpalette([value for i in range(256) for value in (i, 255 - i, 0)])
    picture.save(path)
    return path


def masks(folder, *values, tail='.png', palette=False):
    for i, value in enumerate(values):
        save(folder / 'images' / f'{i}.jpg')
        save(folder / 'masks' / f'{i}{tail}', value, palette)
    return folder


def test_masks_of_the_usual_values_are_used_where_they_are(tmp_path):
    labels = prepare_masks(TINY / 'dsb2018')
    assert labels.classes == ['background', 'object'] and labels.is_standard
    assert {split: len(pairs) for split, pairs in labels.splits.items()} == {'train': 32, 'val': 8}
    roots = write_masks(labels, tmp_path)['train']
    assert (roots.images, roots.masks) == (TINY / 'dsb2018' / 'images', TINY / 'dsb2018' / 'semantic')
    names = (tmp_path / 'train.txt').read_text().split()
    assert len(names) == 32 and (roots.masks / f'{names[0]}{roots.mask_suffix}').is_file()
    assert not (tmp_path / 'masks').exists()


@pytest.mark.parametrize('palette', [False, True])
def test_a_mask_of_0_and_255_has_two_classes_and_is_written_anew(tmp_path, palette):
    labels = prepare_masks(masks(tmp_path, *[[0, 255]] * 6, tail='_mask.png', palette=palette))
    assert labels.values == [0, 255] and labels.ignored == []
    roots = write_masks(labels, tmp_path / 'out')['train']
    names = (tmp_path / 'out' / 'train.txt').read_text().split()
    assert np.unique(read_mask(roots.masks / f'{names[0]}{roots.mask_suffix}')).tolist() == [0, 1]
    assert (roots.images / f'{names[0]}.jpg').is_file()


def test_images_without_a_mask_are_left_out_and_named(tmp_path):
    folder = masks(tmp_path, *[[0, 1]] * 4)
    for name in ('forgotten', 'lost'):
        save(folder / 'images' / f'{name}.jpg')
    labels = read_masks(folder)
    assert labels.notes[0] == '2 images without a mask left out: forgotten.jpg, lost.jpg'
    assert sum(map(len, labels.splits.values())) == 4


def test_255_does_not_count_beside_two_other_values_and_another_value_may_be_named(tmp_path):
    labels = read_masks(masks(tmp_path, *[[1, 4, 255]] * 4))
    assert labels.values == [1, 4] and labels.ignored == [255]
    labels = read_masks(tmp_path, ignore_index=4)
    assert labels.values == [1, 255] and labels.ignored == [4]
    (tmp_path / 'classes.txt').write_text('leaf\nstem\n')
    labels = prepare_masks(tmp_path)
    assert labels.classes == ['leaf', 'stem'] and labels.values == [1, 4]
    roots = write_masks(labels, tmp_path / 'out')['train']
    written = read_mask(next(roots.masks.glob('*.png')))
    assert np.unique(written).tolist() == [0, 1, 255]


def test_splits_of_folders_are_kept_in_both_orders(tmp_path):
    for split in ('train', 'val'):
        save(tmp_path / 'a' / 'images' / split / '1.png')
        save(tmp_path / 'a' / 'masks' / split / '1.png', [0, 1])
        save(tmp_path / 'b' / split / 'images' / '1.png')
        save(tmp_path / 'b' / split / 'masks' / '1.png', [0, 1])
    for name in 'ab':
        labels = prepare_masks(tmp_path / name)
        assert {split: len(pairs) for split, pairs in labels.splits.items()} == {'train': 1, 'val': 1}
        roots = write_masks(labels, tmp_path / f'out-{name}')
        assert roots['val'].images != roots['train'].images and (roots['val'].masks / '1.png').is_file()
        assert all(split in pair.image.parts for split, (pair,) in labels.splits.items())


def _colors(folder):
    masks(folder, [0, 1])
    Image.new('RGB', (8, 8)).save(folder / 'masks' / '0.png')


def _jpeg(folder):
    masks(folder, [0, 1])
    (folder / 'masks' / '0.png').unlink()
    save(folder / 'masks' / '0.jpg', [0, 1])


def _lost(folder):
    masks(folder, [0, 1], [0, 1])
    save(folder / 'masks' / 'other.png', [0, 1])


def _few_names(folder):
    masks(folder, *[[0, 1, 2]] * 3)
    (folder / 'classes.txt').write_text('leaf\nstem\n')


def _mixed(folder):
    masks(folder, [0, 1], [0, 1])
    save(folder / 'images' / 'x.png')
    save(folder / 'masks' / 'x.png', [0, 1])


def _rare(folder):
    for split, values in (('train', [0, 1]), ('val', [0, 2])):
        save(folder / 'images' / split / '1.png')
        save(folder / 'masks' / split / '1.png', values)


def _other_size(folder):
    masks(folder, [0, 1], [0, 1], [0, 1])
    Image.new('L', (6, 4)).save(folder / 'masks' / '1.png')


def _numbered_objects(folder):
    masks(folder, [0, 1], [0, 1])
    numbers = np.arange(64, dtype=np.uint16).reshape(8, 8)
    for i in range(2):
        Image.fromarray(numbers * (i + 40)).save(folder / 'masks' / f'{i}.png')


def _negative(folder):
    masks(folder, [0, 1], tail='.tif')
    Image.fromarray(np.full((8, 8), -1, np.int32)).save(folder / 'masks' / '0.tif')


def _fractions(folder):
    masks(folder, [0, 1], tail='.tif')
    Image.fromarray(np.full((8, 8), 0.5, np.float32)).save(folder / 'masks' / '0.tif')


def _broken(folder):
    masks(folder, [0, 1], [0, 1], [0, 1])
    (folder / 'images' / '1.jpg').write_bytes(b'no picture')


def _latin1(folder):
    masks(folder, *[[0, 1]] * 3)
    (folder / 'classes.txt').write_bytes('thé\ncafé\n'.encode('latin-1'))


@pytest.mark.parametrize(
    ('make', 'words'),
    [
        (_other_size, ['1 of the 3 masks', '1.png has 6 x 4, 1.jpg 8 x 8']),
        (_numbered_objects, ['values (0, 40, 41, 80, 82', 'numbered', 'objects', 'classes.txt', '64']),
        (_negative, ['0.tif', 'values from -1 to -1']),
        (_fractions, ['0.tif', 'values from 0.5 to 0.5']),
        (_broken, ['1 of the 3 images', 'cannot be read', '1.jpg']),
        (_latin1, ['classes.txt', 'not in UTF-8', r'line 1 is th\xe9']),
        (_colors, ['0.png', 'colors', 'palette']),
        (_jpeg, ['0.jpg', 'JPEG']),
        (_lost, ['1 of the 3 masks', 'other.png']),
        (_few_names, ['0, 1, 2', '2 classes have names', '--ignore-index']),
        (_mixed, ['1 of .png', '2 of .jpg']),
        (_rare, ['1 of the 3 classes has no training image', 'class 2']),
        (lambda folder: save(folder / '1.png'), ['no folder of masks']),
        (lambda folder: masks(folder, 1, 1, 1), ['one class']),
    ],
)
def test_masks_that_cannot_be_trained_on_are_refused(tmp_path, make, words):
    make(tmp_path)
    with pytest.raises(UserError) as refusal:
        prepare_masks(tmp_path)
    for word in words:
        assert word in str(refusal.value)


def test_class_folders_are_split_in_equal_shares_of_each_class_and_read_again(tmp_path):
    for name, count in (('big cat', 30), ('dog', 12)):
        for i in range(count):
            save(tmp_path / 'data' / name / f'{i}.png')
    labels = prepare_classes(tmp_path / 'data')
    assert labels.classes == ['big cat', 'dog']
    root, classes = write_lists(labels, tmp_path / 'out')
    assert classes == ['big_cat', 'dog']
    sets = {
        split: LabeledDataset(root, ann_file=tmp_path / 'out' / f'{split}.txt', classes=classes)
        for split in labels.splits
    }
    assert {split: np.bincount(one.labels).tolist() for split, one in sets.items()} == {
        'train': [22, 8],
        'val': [4, 2],
        'test': [4, 2],
    }


def test_class_folders_in_folders_of_splits_and_tables_with_a_split(tmp_path):
    for split in ('train', 'valid'):
        for name in ('a', 'b'):
            save(tmp_path / 'data' / split / name / '1.png')
    labels = prepare_classes(tmp_path / 'data')
    assert {split: [name for _, name in pairs] for split, pairs in labels.splits.items()} == {
        'train': ['a', 'b'],
        'val': ['a', 'b'],
    }
    rows = [f'{split}/{name}/1.png;{name};{split}' for split in ('train', 'valid') for name in ('a', 'b')]
    table = tmp_path / 'data' / 'labels.csv'
    table.write_text('image;label;split\n' + '\n'.join(rows) + '\n')
    assert prepare_classes(table).splits == labels.splits
    table.write_text('\n'.join(row.rpartition(';')[0].replace(';', ',') for row in rows))
    assert len(prepare_classes(table, tmp_path / 'data').splits['train']) == 3


@pytest.mark.parametrize(
    ('files', 'table', 'words'),
    [
        (['a/1.png'], None, ['classes a', 'two or more']),
        (['a/1.png', 'b/1.png', '2.png'], None, ['1 of the 3 images', 'no class folder', '2.png']),
        (['train/a/1.png', 'train/b/1.png', 'val/c/1.png'], None, ['1 of the 3 classes has no training image', 'c']),
        (['1.png'], '1.png,a\n2.png,b\n', ['1 of the 2 images', '2.png']),
        (['1.png'], '1.png,a\n1.png,b\n', ['more than once', '1.png']),
        (['1.png', '2.png'], '1.png,a\n2.png,\n', ['no label for 1 of its 2 images', '2.png']),
        (['1.png'], '1.png\n', ['no table']),
        (['1.png', '2.png'], '1.png,thé\n2.png,café\n', ['labels.csv', 'not in UTF-8', r'th\xe9']),
        (['a/1.png', 'b/1.png', 'b/2.jpg!'], None, ['1 of the 3 images', 'cannot be read', '2.jpg']),
    ],
)
def test_classes_that_cannot_be_trained_on_are_refused(tmp_path, files, table, words):
    for name in files:
        if name.endswith('!'):
            (tmp_path / name[:-1]).write_bytes(b'no picture')
        else:
            save(tmp_path / name)
    if table:
        (tmp_path / 'labels.csv').write_bytes(table.encode('latin-1'))
    with pytest.raises(UserError) as refusal:
        prepare_classes(tmp_path / 'labels.csv' if table else tmp_path)
    for word in words:
        assert word in str(refusal.value)
