"""Classes of validation and test have the indices of training, and the data check says where they do not."""

import os
import re

import pytest

from labeled_set import NAMES, look, make_config, make_set, said
from mae_toolkit.datasets import LabeledDataset
from mae_toolkit.datasets.training_classes import list_classes, use_training_classes


@pytest.fixture
def root(tmp_path):
    return make_set(tmp_path / 'set')


def without_first(root, as_list):
    """Take the first class out of validation."""
    if as_list:
        lines = (root / 'val.txt').read_text().splitlines()
        (root / 'val.txt').write_text('\n'.join(line for line in lines if not line.endswith('ant')))
    else:
        (root / 'val' / 'ant').rename(root / 'ant')


@pytest.mark.parametrize('as_list', [False, True])
def test_validation_that_lacks_a_class_is_numbered_as_training(root, as_list):
    without_first(root, as_list)
    cfg = make_config(root, as_list)
    loader = use_training_classes(cfg.val_dataloader, cfg.train_dataloader)
    assert loader['dataset']['classes'] == list(NAMES) and 'classes' not in cfg.val_dataloader.dataset
    arguments = {key: value for key, value in loader['dataset'].items() if key != 'type'}
    dataset = LabeledDataset(**arguments)
    assert {dataset[i]['name'].split('/')[1]: dataset[i]['label'] for i in range(4)} == {'bee': 1, 'cow': 2}
    report = look(cfg, 'val')
    assert report.classes == {'ant': 0, 'bee': 2, 'cow': 2}
    assert said(cfg, 'val').endswith('1 of the 3 classes has no image (ant).')


def test_what_is_named_or_not_known_stays(root):
    cfg = make_config(root, val=dict(classes=['x', 'y']))
    assert use_training_classes(cfg.val_dataloader, cfg.train_dataloader) is cfg.val_dataloader
    cfg = make_config(root, split='nowhere')
    assert use_training_classes(cfg.val_dataloader, cfg.train_dataloader) is cfg.val_dataloader
    assert use_training_classes(cfg.val_dataloader, None) is cfg.val_dataloader
    other = dict(dataset=dict(type='ImageDataset', data_root=str(root)))
    assert use_training_classes(other, cfg.train_dataloader) is other
    assert use_training_classes(cfg.val_dataloader, other) is cfg.val_dataloader
    assert use_training_classes(None, cfg.train_dataloader) is None


@pytest.mark.parametrize(
    'arguments',
    [
        {},
        {'classes': ['cow', 'bee', 'ant']},
        {'hold_out': 4},
        {'label_fraction': 0.3},
        {'ann_file': 'train.txt', 'split': None},
    ],
)
def test_classes_are_listed_as_the_dataset_numbers_them(root, arguments):
    cfg = {'type': 'LabeledDataset', 'data_root': str(root), 'split': 'train', **arguments}
    (root / 'train' / 'empty').mkdir()
    if 'ann_file' not in arguments and 'classes' not in arguments:  # the first image, which hold_out leaves out
        (root / 'train' / 'aaa').mkdir()
        os.link(root / 'train' / 'ant' / '0.png', root / 'train' / 'aaa' / '0.png')
    built = LabeledDataset(**{key: value for key, value in cfg.items() if key != 'type'})
    assert list_classes(cfg) == list(built.metainfo['classes'])


def test_classes_in_another_order_than_in_training_are_refused(root):
    sentence = said(make_config(root, val=dict(classes=['bee', 'ant', 'cow'])), 'val', refused=True)
    assert 'index than in training: bee, ant, cow here, ant, bee, cow there' in sentence
    assert look(make_config(root, val=dict(classes='train')), 'val').findings == {}
    longer = make_config(root, val=dict(classes=[*NAMES, 'dog']))  # the numbers are the same
    assert not look(longer, 'val').errors


def test_classes_that_training_does_not_know_are_refused(root):
    (root / 'val' / 'cow').rename(root / 'val' / 'Cow')
    sentence = said(make_config(root), 'val', refused=True)
    assert '2 of the 6 images are of a class that is none of the 3 classes, ant, bee, cow' in sentence
    assert "val/Cow/0.png of 'Cow'" in sentence and 'the 3 classes here are Cow, ant, bee' in sentence


def test_classes_beyond_the_outputs_of_the_model_are_refused(root):
    cfg = make_config(root)
    cfg.model = dict(num_classes=2)
    assert '1 of the 3 classes has an index beyond the outputs of the model, 0 to 1 (cow: 2)' in said(cfg, 'val', True)
    for outputs in (2, 4):
        cfg.model.num_classes = outputs
        sentence = said(cfg, refused=True)
        assert re.search(
            rf'num_classes={outputs}, and the images of .* are of 3 classes \(ant, bee, cow\): set', sentence
        )
    assert not look(cfg, 'val').findings


def test_without_the_images_of_training_others_are_looked_at(root):
    (root / 'train').rename(root / 'elsewhere')
    assert look(make_config(root), 'val').findings == {}
