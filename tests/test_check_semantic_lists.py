"""The check of lists, arguments and splits of MMSegmentation's datasets, and of datasets of the user's own."""

import re

import numpy as np
import pytest
from PIL import Image

from mae_toolkit.datasets.checks import semantic

pytest.importorskip('mmseg', reason='MMSegmentation is not installed: pip install -e .[seg]')

from mmseg.datasets import BaseSegDataset
from mmseg.datasets.transforms import LoadAnnotations  # by which its datasets are found by their names, too

from semantic_set import (
    CLASSES,
    COLORS,
    for_all,
    label_of,
    look,
    make_config,
    make_set,
    refusal,
    warning,
    write,
)


@pytest.fixture
def root(tmp_path):
    return make_set(tmp_path / 'set')


def _matches(pattern, text):
    return re.search(pattern, text, re.DOTALL) is not None


# --- lists and arguments


LISTS = {
    'with suffixes': ('n0.jpg\nn1.jpg\n', 'there is n0.jpg: remove the suffix from the names'),
    'with blank lines': ('n0\n\nn1\n\n', '2 of the 4 lines of the list are blank'),
    'with a byte order mark': ('\ufeffn0\nn1\n', 'The list begins with a byte order mark'),
    'in UTF-16': ('n0\nn1\n'.encode('utf-16'), 'UTF-16'),
    'in UTF-16 without a mark': ('n0\nn1\n'.encode('utf-16-le'), 'UTF-16'),
    'in Latin-1': ('nü\n'.encode('latin-1'), 'is not UTF-8'),
    'without names': ('\n', 'names no images'),
    'empty': ('', 'names no images'),
    'with a comment': ('# mine\nn0\n', '1 of the 2 images is missing .*# mine.jpg'),
}


@pytest.mark.parametrize('name', LISTS)
def test_lists_that_mean_other_names_are_refused(root, name):
    content, sentence = LISTS[name]
    write(root / 'train.txt', content)
    said = refusal(make_config(root))
    assert _matches(sentence, said), said


def test_lists_may_end_in_any_way_and_names_may_have_dots(root):
    (root / 'images' / 'n3.jpg').rename(root / 'images' / 'n.3.b.jpg')
    (root / 'labels' / 'n3.png').rename(root / 'labels' / 'n.3.b.png')
    write(root / 'train.txt', 'n0\r\n  n1 \r\nn.3.b')
    assert warning(make_config(root)) == ''


def test_names_that_are_listed_twice_are_counted(root):
    write(root / 'train.txt', 'n0\nn1\nn1\nn1\nn0\n')
    assert '2 of the 5 names are in the list more than once' in warning(make_config(root))


ARGUMENTS = {
    'no list': (dict(ann_file='no.txt'), 'There is no list .*no.txt'),
    'a folder as list': (dict(ann_file='images'), 'is a folder: name the list'),
    'no folder of images': (dict(data_prefix=dict(img_path='pictures', seg_map_path='labels')), 'no folder .*pictures'),
    'no masks': (dict(data_prefix=dict(img_path='images')), 'The dataset has no masks, and its pipeline loads them'),
    'another suffix': (dict(ann_file='', img_suffix='.bmp'), r"img_suffix='.bmp' \(there are files: 6 of '.jpg'\)"),
    'a number as list': (dict(ann_file=5), 'ann_file=5 is not a path'),
    'one text as classes': (dict(metainfo=dict(classes='road')), r"classes='road' is one string, .*\('road',\)"),
    'a class twice': (dict(metainfo=dict(classes=('a', 'b', 'a'))), r'names twice \(a\)'),
    'too few colors': (dict(metainfo=dict(classes=CLASSES, palette=COLORS[:2])), '2 colors for 3 classes'),
    'too many colors': (dict(metainfo=dict(classes=CLASSES[:2], palette=COLORS)), '3 colors for 2 classes'),
    'foreign classes': (
        dict(type='ADE20KDataset', metainfo=dict(classes=('wall', 'sofas'))),
        r'1 of the 2 .*\(sofas\)',
    ),
    'no classes': (dict(metainfo={}, test_mode=True), 'names no classes'),
}


@pytest.mark.parametrize('name', ARGUMENTS)
def test_arguments_that_mmseg_refuses_in_a_trace(root, name):
    arguments, sentence = ARGUMENTS[name]
    cfg = make_config(root)
    dataset = {**cfg.train_dataloader.dataset, **arguments}
    dataset = {**dataset, 'metainfo': arguments['metainfo']} if 'metainfo' in arguments else dataset
    cfg = make_config(root)
    cfg.train_dataloader = dict(dataset=dataset)
    said = refusal(cfg)
    assert _matches(sentence, said), said


def test_without_a_list_all_images_are_taken(root):
    assert look(make_config(root, ann_file='')).images == 6


def test_part_of_the_classes_of_a_known_dataset(root):
    cfg = make_config(root, type='ADE20KDataset', reduce_zero_label=False)
    cfg.train_dataloader.dataset.metainfo = dict(classes=('building', 'wall'))
    report = look(cfg)
    assert not report.errors and list(report.classes) == ['building', 'wall']
    assert report.classes['building'] == 4 * np.count_nonzero(label_of(0) == 1)  # 1 is building in ADE20K, and 0 wall


# --- training and validation


def test_validation_has_the_classes_of_training(root):
    cfg = make_config(root)
    cfg.val_dataloader.dataset.metainfo = dict(classes=('gray', 'blue', 'red'))
    said = refusal(cfg, 'val')
    assert '2 of the 3 classes have another index than in training: gray, blue, red here, gray, red, blue there' in said
    cfg.val_dataloader.dataset.metainfo = dict(classes=('Gray', 'Red', 'Blue'))
    assert 'classes have other names than in training' in warning(cfg, 'val')
    cfg = make_config(root)
    cfg.val_dataloader.dataset.reduce_zero_label = True
    assert 'The dataset has reduce_zero_label=True, and training False' in warning(cfg, 'val')


def test_images_of_validation_that_training_sees_are_counted(root):
    assert warning(make_config(root), 'val') == ''
    write(root / 'val.txt', 'n4\nn1\n')
    assert '1 of the 2 images is in the training data too' in warning(make_config(root), 'val')
    write(root / 'val.txt', 'n4\nn5\n')
    write(root / 'images' / 'n5.jpg', (root / 'images' / 'n2.jpg').read_bytes())
    said = warning(make_config(root), 'val')
    assert '1 of the 2 images is in the training data too' in said and 'n5.jpg = ' in said
    cfg = make_config(root)
    cfg.train_dataloader = dict(dataset=dict(type='RepeatDataset', times=2, dataset=cfg.train_dataloader.dataset))
    assert '1 of the 2 images is in the training data too' in warning(cfg, 'val')


def test_validation_is_looked_at_where_training_data_are_not(root):
    (root / 'train.txt').unlink()
    assert warning(make_config(root), 'val') == ''


def test_data_elsewhere_are_said_not_to_be_looked_at(root):
    said = warning(make_config(root, backend_args=dict(backend='petrel')))
    assert 'files are read through backend_args and were not checked' in said


def test_other_datasets_are_not_looked_at(root):
    cfg = make_config(root)
    assert not semantic.can_check(dict(type='mae_toolkit.ImageDataset', data_root=str(root)), cfg)
    assert not semantic.can_check(dict(type='NoSuchDataset'), cfg)
    assert not semantic.can_check({}, cfg)


def test_a_dataset_of_the_users_own_may_take_less(root):
    class Fixed(BaseSegDataset):
        def __init__(self, where, pipeline=()):
            prefix = dict(img_path='images', seg_map_path='labels')
            metainfo = dict(classes=CLASSES, palette=COLORS)
            super().__init__('train.txt', data_root=where, data_prefix=prefix, metainfo=metainfo, pipeline=pipeline)

    cfg = make_config(root)
    pipeline = cfg.train_dataloader.dataset.pipeline
    cfg.train_dataloader = dict(dataset=dict(type=Fixed, where=str(root), pipeline=pipeline))
    report = look(cfg)
    assert not report.findings and report.images == 4 and sum(report.classes.values()) == 4 * 24 * 32


def test_a_loader_of_the_users_own_reads_colors(root):
    class Colored(LoadAnnotations):
        def _load_seg_map(self, results):
            pixels = np.array(Image.open(results['seg_map_path']))
            results['gt_seg_map'] = (pixels[..., None, :] == np.uint8(COLORS)).all(-1).argmax(-1).astype(np.uint8)
            results['seg_fields'].append('gt_seg_map')

    for_all(root, lambda label: Image.fromarray(np.uint8(COLORS)[label]))
    cfg = make_config(root)
    cfg.train_dataloader.dataset.pipeline[1] = dict(type=Colored)
    report = look(cfg)
    assert not report.findings and report.classes['blue'] == 4 * np.count_nonzero(label_of(0) == 2)

    class Wrong(LoadAnnotations):
        def _load_seg_map(self, results):
            raise RuntimeError('a mistake in it')

    cfg.train_dataloader.dataset.pipeline[1] = dict(type=Wrong)
    with pytest.raises(RuntimeError, match='a mistake in it'):  # with its trace
        look(cfg)
