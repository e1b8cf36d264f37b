"""Labeled images: classes, shares of labels, augmentations that follow from seed, epoch and index."""

import random

import numpy as np
import pytest
import torch
from PIL import Image

from mae_toolkit.datasets import ColorJitter, LabeledDataset, RandAugment, TrivialAugment, image_collate
from mae_toolkit.datasets.labeled_dataset import select_fraction
from mae_toolkit.errors import UserError
from mae_toolkit.randomness import seeded


@pytest.fixture
def folder(tmp_path):
    """Three classes of ten, ten and five images for training, and one of them for validation."""
    generator = np.random.default_rng(0)
    for split, name, count in (('train', 'b', 10), ('train', 'a', 10), ('train', 'c', 5), ('val', 'b', 2)):
        (tmp_path / split / name / 'deeper').mkdir(parents=True)
        for i in range(count):
            place = tmp_path / split / name / ('deeper' if i == 1 else '.') / f'{i}.png'
            Image.fromarray(generator.integers(256, size=(12, 16, 3), dtype=np.uint8)).save(place)
    return tmp_path


def labels_of(dataset):
    return {dataset[i]['name']: dataset[i]['label'] for i in range(len(dataset))}


def test_the_folder_is_the_class(folder):
    dataset = LabeledDataset(folder, split='train')
    assert dataset.metainfo == {'classes': ['a', 'b', 'c']}
    found = labels_of(dataset)
    assert len(found) == 25
    assert all(label == 'abc'.index(name.split('/')[1]) for name, label in found.items())
    batch = image_collate([dataset[0], dataset[24]])
    assert batch['labels'].tolist() == [0, 2] and batch['labels'].dtype == torch.int64


def test_validation_numbers_the_classes_as_training_does(folder):
    for classes in ('train', ['a', 'b', 'c']):
        dataset = LabeledDataset(folder, split='val', classes=classes)
        assert set(labels_of(dataset).values()) == {1}


def test_a_folder_without_images_is_no_class_of_either(folder):
    (folder / 'train' / 'aa').mkdir()
    (folder / 'train' / 'aa' / 'notes.txt').touch()
    (folder / 'train' / 'c').rename(folder / 'elsewhere')
    (folder / 'train' / 'c').mkdir()
    (folder / 'train' / 'c' / 'linked').symlink_to(folder / 'elsewhere')
    train, val = LabeledDataset(folder, split='train'), LabeledDataset(folder, split='val', classes='train')
    assert train.metainfo == val.metainfo == {'classes': ['a', 'b', 'c']}


def test_a_list_of_path_and_class(folder):
    (folder / 'list.txt').write_text('train/a/0.png cat\n# a comment\ntrain/b/deeper/1.png  dog\n val/b/0.png dog\n')
    dataset = LabeledDataset(folder, ann_file='list.txt')
    assert dataset.metainfo['classes'] == ['cat', 'dog']
    assert labels_of(dataset) == {'train/a/0.png': 0, 'train/b/deeper/1.png': 1, 'val/b/0.png': 1}


def test_held_out_images_and_repeats_keep_their_labels(folder):
    dataset = LabeledDataset(folder, split='train', hold_out=3, repeat=2)
    assert len(dataset) == 2 * 16
    for i in range(len(dataset)):
        assert 'abc'[dataset[i]['label']] == dataset[i]['name'].split('/')[1]


def test_a_broken_image_has_the_label_of_the_one_in_its_place(folder):
    names = [LabeledDataset(folder, split='train')[i]['name'] for i in range(25)]
    (folder / names[9]).write_bytes(b'no picture')  # the last of class a
    item = LabeledDataset(folder, split='train')[9]
    assert item['name'] == names[10] and item['label'] == 1 and item['broken'][0][0] == names[9]


def test_shares_of_the_labels(folder):
    def names(share, choice=0, seed=0):
        dataset = LabeledDataset(folder, split='train', label_fraction=share, label_seed=choice, seed=seed)
        assert all('abc'[label] == name.split('/')[1] for name, label in labels_of(dataset).items())
        return set(labels_of(dataset))

    few, some, many = names(0.01), names(0.2), names(0.6)
    assert [len(few), len(some), len(many)] == [3, 5, 15]
    assert few < some < many  # each holds the smaller share
    assert names(0.2) == names(0.2, seed=7) == some  # the seed of the run chooses no images
    assert len({frozenset(names(0.2, seed)) for seed in range(4)}) > 1
    assert names(1.0) == set(labels_of(LabeledDataset(folder, split='train')))


def test_the_share_is_of_each_class():
    labels = np.repeat([0, 1, 2], [100, 10, 1])
    kept = labels[select_fraction(labels, 0.1, seed=0)]
    assert np.bincount(kept).tolist() == [10, 1, 1]


@pytest.mark.parametrize(
    ('arguments', 'sentence'),
    [
        ({'label_fraction': 0}, 'label_fraction=0 must be a fraction'),
        ({'label_fraction': 1.5}, 'label_fraction=1.5 must be a fraction'),
        ({'label_fraction': '10%'}, "label_fraction='10%' must be a fraction"),
        ({'label_fraction': True}, 'label_fraction=True must be a fraction'),
        ({'label_fraction': float('nan')}, 'label_fraction=nan must be a fraction'),
        ({'label_fraction': 0.5, 'label_seed': -1}, 'label_seed=-1 must be a whole'),
        ({'label_fraction': 0.5, 'label_seed': 'a'}, "label_seed='a' must be a whole"),
        ({'hold_out': 2.5}, 'hold_out=2.5 must be None'),
        ({'layout': 'coco'}, 'COCO has boxes'),
        ({'split': 'val'}, 'has the classes b: two or more'),
        ({'split': 'val', 'classes': ['a', 'c']}, "val/b/0.png is of class 'b', which is none"),
        ({'split': 'val', 'classes': 'tarin'}, "There is no folder .*tarin; classes='tarin' must be a split"),
        ({'split': 'train/a'}, 'train/a/0.png lies in no class folder'),
        ({'ann_file': 'bad.txt'}, "'train/a/0.png' of the list has no class"),
    ],
)
def test_refusals(folder, arguments, sentence):
    (folder / 'bad.txt').write_text('train/a/0.png\n')
    with pytest.raises(UserError, match=sentence):
        LabeledDataset(folder, **arguments)


AUGMENTATIONS = [RandAugment(), TrivialAugment(), ColorJitter()]


@pytest.mark.parametrize('augment', AUGMENTATIONS, ids=lambda a: type(a).__name__)
@pytest.mark.parametrize('channels', [1, 3])
def test_augmentations_follow_from_the_numbers_that_they_are_given(augment, channels):
    image = np.random.default_rng(0).integers(256, size=(24, 30, channels), dtype=np.uint8)
    before = image.copy()
    random.seed(1), np.random.seed(1), torch.manual_seed(1)
    expected = random.random(), np.random.rand(), torch.rand(1)
    random.seed(1), np.random.seed(1), torch.manual_seed(1)
    seen = [augment(image, np.random.default_rng(seed)) for seed in range(8)]
    assert (random.random(), np.random.rand(), torch.rand(1)) == expected  # they draw from nobody else's
    assert np.array_equal(image, before)
    assert all(out.shape == image.shape and out.dtype == np.uint8 for out in seen)
    again = [augment(image, np.random.default_rng(seed)) for seed in range(8)]
    assert all(np.array_equal(a, b) for a, b in zip(seen, again, strict=True))
    assert len({out.tobytes() for out in seen}) > 4


@pytest.mark.parametrize('augment', AUGMENTATIONS, ids=lambda a: type(a).__name__)
def test_augmentations_refuse_what_is_no_picture(augment):
    with pytest.raises(UserError, match='not uint16 with 4'):
        augment(np.zeros((8, 8, 4), np.uint16), np.random.default_rng(0))


def test_augmentations_refuse_what_others_do_not_know():
    with pytest.raises(UserError, match="policy='original'"):
        RandAugment('original')
    with pytest.raises(UserError, match="RandAugment: policy='rand-z9' is not a policy that timm can read"):
        RandAugment('rand-z9')
    with pytest.raises(UserError, match='brightness=2 must be'):
        ColorJitter(brightness=2)
    for cls in (RandAugment, TrivialAugment):
        with pytest.raises(UserError, match="interpolation='nearest'"):
            cls(interpolation='nearest')


def test_an_item_does_not_depend_on_what_came_before(folder):
    pipeline = [dict(type='RandomResizedCrop', size=8), dict(type='RandAugment'), dict(type='TrivialAugment')]
    dataset = LabeledDataset(folder, pipeline, split='train', seed=3)
    first = dataset[2, 5]['img']
    random.seed(9), torch.manual_seed(9)
    dataset[0, 1]
    assert torch.equal(dataset[2, 5]['img'], first)
    assert not torch.equal(dataset[3, 5]['img'], first)


def test_seeded_generators_go_on_after_an_error():
    random.seed(4), np.random.seed(4)
    expected = random.random(), np.random.rand()
    random.seed(4), np.random.seed(4)
    with pytest.raises(RuntimeError), seeded(7):
        raise RuntimeError
    assert (random.random(), np.random.rand()) == expected
