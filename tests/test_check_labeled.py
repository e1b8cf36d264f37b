"""The check of labeled images and lists before the first step, and the class indices of validation."""

import os
import re

import pytest
from mmengine.config import Config
from PIL import Image

from labeled_set import NAMES, look, make_config, make_set, said
from mae_toolkit.datasets import LabeledDataset
from mae_toolkit.datasets.checks import DataReport, content, labeled
from mae_toolkit.datasets.training_classes import use_training_classes
from mae_toolkit.errors import UserError


@pytest.fixture
def root(tmp_path):
    return make_set(tmp_path / 'set')


@pytest.mark.parametrize('as_list', [False, True])
def test_a_sound_set_is_counted_and_nothing_is_said(root, as_list):
    cfg = make_config(root, as_list)
    for split, count in (('train', 4), ('val', 2)):
        report = look(cfg, split)
        assert not report.findings and report.images == 3 * count
        assert report.classes == dict.fromkeys(NAMES, count)


def test_counts_are_of_what_is_used(root):
    assert look(make_config(root, label_fraction=0.5)).classes == dict.fromkeys(NAMES, 2)
    assert look(make_config(root, hold_out=4)).classes == dict.fromkeys(NAMES, 3)
    assert look(make_config(root, True, hold_out=-4)).classes == dict.fromkeys(NAMES, 1)


# --- lists


def add(root, text, encoding='utf-8'):
    """Add lines to the list of training."""
    path = root / 'train.txt'
    path.write_bytes((path.read_text() + text).encode(encoding))


LISTS = {
    'a line without a class': ('train/ant/0.png\n', '1 of the 13 lines of the list has no class .*train/ant/0.png'),
    'a comma': ('train/ant/0.png,ant\n', 'separate path and class by a space, not a comma'),
    'a blank in the name alone': ('my ant.png\n', r"1 of the 13 lines of the list has no class \('my ant.png'\)"),
    'two classes': ('train/ant/1.png bee\n', r'1 image is listed under several .*train/ant/1.png under ant and bee'),
    'two spellings': ('./train/ant/1.png bee\n', 'listed under several classes'),
    'missing files': ('x.png ant\ny.png bee\n', r'2 of the 14 images of the list are missing \(x.png; y.png\)'),
    'backslashes': ('train\\bee\\3.png bee\n', r'write paths with / and not with'),
    'a class of two words': ('train/ant/3.png red ant\n', 'write classes without spaces'),
}


@pytest.mark.parametrize('name', LISTS)
def test_lists_that_are_wrong_are_refused(root, name):
    text, sentence = LISTS[name]
    Image.new('RGB', (8, 8)).save(root / 'my ant.png')
    add(root, text)
    found = said(make_config(root, True), refused=True)
    assert re.search(sentence, found), found


def test_lists_may_be_written_in_many_ways(root):
    plain = look(make_config(root, True)).to_dict()
    lines = (root / 'train.txt').read_text().splitlines()
    for text, encoding in (
        ('\r\n'.join(lines), 'utf-8'),
        ('\n\n'.join(f'  {line}\t' for line in lines) + '\n\n', 'utf-8-sig'),
        ('\n'.join(lines), 'utf-16'),
        ('\r'.join(lines), 'utf-32'),
        ('# mine\n' + '\n'.join(line.replace(' ', '\t') for line in lines), 'utf-8'),
    ):
        (root / 'train.txt').write_bytes(text.encode(encoding))
        assert look(make_config(root, True)).to_dict() == plain
    (root / 'train.txt').write_bytes('\n'.join(lines).encode('utf-16-le'))
    sentence = said(make_config(root, True), refused=True)
    assert 'train.txt is not a text file: it contains zero bytes, as UTF-16 without' in sentence


def test_lines_that_are_there_twice_are_counted(root):
    add(root, 'train/ant/1.png ant\n./train/ant/1.png ant\n')
    assert '1 of the 12 images is listed more than once and weighs more' in said(make_config(root, True))


def test_names_that_begin_with_a_hash(root):
    (root / 'train' / 'ant' / '0.png').rename(root / '#0.png')
    (root / 'train.txt').write_text('# all\n#0.png ant\n#1.png ant\ntrain/bee/0.png bee\n')
    report = look(make_config(root, True))
    assert report.classes == {'ant': 1, 'bee': 1} and report.left_out == {'lines that begin with #': 1}
    assert '1 line begins with # and names no file, and is left out as comments (#1.png ant)' in said(
        make_config(root, True)
    )


def test_a_dataset_itself_refuses_two_classes_of_an_image(root):
    add(root, 'train/ant/1.png bee\n')
    with pytest.raises(UserError, match='1 image of train.txt is listed under several classes, such as train/ant/1.'):
        LabeledDataset(root, ann_file='train.txt')


# --- files


def test_images_that_cannot_be_read(root):
    (root / 'train' / 'ant' / '1.png').write_text('text')
    (root / 'val' / 'ant' / '1.png').write_bytes(b'')
    report = look(make_config(root))
    assert report.left_out == {'unreadable images': 1}
    assert '1 of the 12 images cannot be read and will be skipped' in said(make_config(root))
    assert '1 of the 6 images cannot be read (' in said(make_config(root), 'val', refused=True)


def test_folders_that_are_no_classes_are_said(root):
    (root / 'train' / 'dog').mkdir()
    (root / 'train' / '.ipynb_checkpoints').mkdir()
    os.link(root / 'train' / 'ant' / '0.png', root / 'train' / '.ipynb_checkpoints' / '0.png')
    sentence = said(make_config(root))
    assert '1 folder contains no images and is left out (dog)' in sentence
    assert '1 hidden folder contains images, which are left out (.ipynb_checkpoints)' in sentence
    os.link(root / 'train' / 'ant' / '0.png', root / 'train' / '0.png')
    sentence = said(make_config(root), refused=True)
    assert '1 of the 13 images lies in no class folder (train/0.png): move each' in sentence


def test_the_same_picture_in_two_classes_or_splits_is_said(root):
    picture = (root / 'train' / 'ant' / '1.png').read_bytes()
    (root / 'train' / 'bee' / 'copy.png').write_bytes(picture)
    assert '1 image lies under several classes, as files with the same content (' in said(make_config(root))
    os.symlink(root / 'train' / 'cow' / '0.png', root / 'val' / 'cow' / 'link.png')
    sentence = said(make_config(root), 'val')
    assert '1 of the 7 images is in the training data too' in sentence and 'link.png = ' in sentence
    (root / 'val.txt').write_text('train/ant/0.png ant\nval/bee/0.png bee\n')
    assert '1 of the 2 images is in the training data too' in said(make_config(root, True), 'val')
    cfg = make_config(root, hold_out=4, val=dict(split='train', hold_out=-4))
    (root / 'train' / 'bee' / 'copy.png').unlink()
    assert 'training data' not in said(cfg, 'val')


def test_few_bytes_are_read_to_find_the_same_content(root, monkeypatch):
    paths = sorted((root / 'train').rglob('*.png'))
    for path in paths[1:3]:
        path.write_bytes(paths[0].read_bytes())
    assert content.find_duplicate_files(paths) == [paths[:3]]
    monkeypatch.setattr(content, 'MAX_BYTES', 1)
    assert content.find_duplicate_files(paths) == []
    monkeypatch.setattr(content, 'MAX_FILES', 2)
    assert content.find_duplicate_files(paths) == []


# --- pretraining


def test_lists_of_pretraining(root):
    names = [line.split()[0] for line in (root / 'train.txt').read_text().splitlines()]
    dataset = dict(type='ImageDataset', data_root=str(root), ann_file='names.txt')
    cfg = Config(dict(train_dataloader=dict(dataset=dataset)))
    (root / 'names.txt').write_text('\n'.join(names))
    assert look(cfg).findings == {} and look(cfg).images == 12
    (root / 'names.txt').write_text('\n'.join([*names, 'no.png', 'nor.png']))
    assert '2 of the 14 images of the list are missing (no.png; nor.png)' in said(cfg)
    (root / 'names.txt').write_text('\n'.join([names[0], 'no.png', 'nor.png']))
    assert '2 of the 3 images of the list are missing' in said(cfg, refused=True)


@pytest.mark.parametrize(
    ('arguments', 'sentence'),
    [
        ({'data_root': None}, 'data_root=None is not a path'),
        ({'split': 5}, 'split=5 is not a path'),
        ({'ann_file': 'boxes.json'}, 'COCO has boxes'),
        ({'split': 'test'}, 'There is no folder'),
        ({'hold_out': 2.5}, 'hold_out=2.5 must be None'),
        ({'label_fraction': float('nan')}, 'label_fraction=nan must be a fraction'),
        ({'classes': ['ant']}, 'is none of the 1 classes'),
    ],
)
def test_arguments_are_refused_in_a_sentence(root, arguments, sentence):
    cfg = make_config(root)
    cfg.train_dataloader.dataset.update(arguments)
    with pytest.raises(UserError, match=sentence):
        DataReport([look(cfg)]).raise_if_fatal()


def test_datasets_of_the_users_own_are_not_looked_at(root):
    class Own(LabeledDataset):
        def _list_images(self, *where):
            return ['another']

    class Fixed(LabeledDataset):
        def __init__(self, root):
            super().__init__(root, split='val')

    assert not labeled.can_check({'type': Own}, {}) and not labeled.can_check({'type': Fixed}, {})
    fixed = dict(dataset=dict(type=Fixed, root=str(root)))
    assert use_training_classes(fixed, make_config(root).train_dataloader) is fixed
    assert use_training_classes(make_config(root).val_dataloader, fixed)['dataset'].get('classes') is None
    assert not labeled.can_check({'type': 'CocoDataset'}, {})
    assert not labeled.can_check({}, {})
