"""The look at detection sets: every field of annotations, images and categories, before anything is built."""

import gzip
import json
import math
import os
from pathlib import Path

import numpy as np
import pytest
from pycocotools import mask as coco_masks

from coco_sets import HEIGHT, WIDTH, make_config, make_content, make_set, write_images
from mae_toolkit.datasets.checks import check_data, format_report
from mae_toolkit.datasets.checks.coco.run_lengths import decode_runs

pytest.importorskip('mmdet', reason='MMDetection is not installed: pip install -e .[det]')


def look(cfg):
    """What is wrong, and what is doubtful, in one text each."""
    report = check_data(cfg)
    return '\n'.join(report.errors()), '\n'.join(report.warnings())


def setting(key, value, number=1):
    """A change of a field of one annotation."""

    def change(content):
        content['annotations'][number][key] = value

    return change


def every(key, function, step=1, of='annotations'):
    """A change of a field of every so manieth annotation, or of what else is listed."""

    def change(content):
        for item in content[of][::step]:
            item[key] = function(item)

    return change


def without(key, of='annotations'):
    def change(content):
        for item in content[of]:
            del item[key]

    return change


def corners(item):
    x, y, w, h = item['bbox']
    return [x, y, x + w, y + h]


def corners_and_areas(content):
    for item in content['annotations']:
        item['bbox'] = corners(item)
        item['area'] = item['bbox'][2] * item['bbox'][3]


def fill(content):
    """Objects that fill their images, of which right and bottom are larger than left and top, too."""
    for item in content['annotations']:
        item['bbox'] = [1 + item['id'] / 20, 1, 90, 60]
        item['area'] = 5400


def shares(item):
    x, y, w, h = item['bbox']
    return [x / WIDTH, y / HEIGHT, w / WIDTH, h / HEIGHT]


def swap_sizes(content):
    for image in content['images']:
        image.update(width=HEIGHT, height=WIDTH)


@pytest.mark.parametrize('masks', [False, True], ids=['boxes', 'masks'])
@pytest.mark.parametrize('split', ['train', 'val'])
def test_a_set_in_order_has_no_fault(tmp_path, split, masks):
    report = check_data(make_set(tmp_path, split=split, masks=masks))
    (found,) = report.splits
    assert (found.images, found.annotations, found.classes) == (8, 24, {'red': 16, 'blue': 8})
    assert not report.errors() and not report.warnings() and not found.left_out
    assert 'No errors or warnings' in format_report(report)
    assert json.loads(json.dumps(report.to_dict(), allow_nan=False))['splits'][0]['classes'] == found.classes


FATAL = {
    'no id': (without('id'), '24 of the 24 annotations have no "id" (1.jpg, annotations[0]'),
    'same id': (every('id', lambda item: item['id'] // 2), 'annotations have the id of another'),
    'null id': (setting('id', None), '1 of the 24 annotations has an "id" that is not a whole number'),
    'list id': (setting('id', [4]), '1 of the 24 annotations has an "id" that is not a whole number'),
    'no image_id': (without('image_id'), '24 of the 24 annotations have no "image_id"'),
    'text image_id': (every('image_id', lambda item: str(item['image_id'])), 'another type of "image_id" than'),
    'list image_id': (setting('image_id', [1]), 'an "image_id" that is not a whole number'),
    'no category_id': (without('category_id'), '24 of the 24 annotations have no "category_id"'),
    'other category_id': (setting('category_id', 9), '1 of the 24 annotations has a "category_id" that the file does'),
    'text category_id': (setting('category_id', '1'), '1 of the 24 annotations has another type of "category_id"'),
    'null category_id': (setting('category_id', None), '1 of the 24 annotations has a "category_id" that the file'),
    'no bbox': (without('bbox'), '24 of the 24 annotations have no "bbox"'),
    'null bbox': (setting('bbox', None), '1 of the 24 annotations has no "bbox" (1.jpg, annotation 4)'),
    'short bbox': (setting('bbox', [1, 2, 3]), '1 of the 24 annotations has a "bbox" that is not four numbers'),
    'text in bbox': (setting('bbox', [1, 2, '3', 4]), '1 of the 24 annotations has a "bbox" that is not four numbers'),
    'dict bbox': (setting('bbox', {'x': 1}), '1 of the 24 annotations has a "bbox" that is not four numbers'),
    'nan bbox': (setting('bbox', [1, 2, math.nan, 4]), '1 of the 24 annotations has a "bbox" that is not four number'),
    'endless bbox': (setting('bbox', [1, 2, 10**400, 4]), '1 of the 24 annotations has a "bbox" that is not four'),
    'corners with areas to match': (corners_and_areas, 'look like [left, top, right, bottom]'),
    'corners': (every('bbox', corners), 'look like [left, top, right, bottom]'),
    'shares': (every('bbox', shares), 'the boxes of 24 of 24 annotations lie between 0 and 1'),
    'no area': (without('area'), '24 of the 24 annotations have no "area"'),
    'nan area': (setting('area', math.nan), '1 of the 24 annotations has an "area" that is not a number'),
    'text area': (setting('area', '12'), '1 of the 24 annotations has an "area" that is not a number'),
    'areas of 0': (every('area', lambda item: 0), '24 of the 24 annotations cannot be used, more than data_check'),
    'text iscrowd': (setting('iscrowd', '0'), '1 of the 24 annotations has an "iscrowd" that is neither 0 nor 1'),
    'null iscrowd': (setting('iscrowd', None), '1 of the 24 annotations has an "iscrowd" that is neither 0 nor 1'),
    'text ignore': (setting('ignore', 'no'), '1 of the 24 annotations has an "ignore" that is neither 0 nor 1'),
    'huge box': (setting('bbox', [1, 2, 1e300, 4]), '1 of the 24 annotations has a "bbox" of 2^31 pixels or more'),
    'all crowds': (every('iscrowd', lambda item: 1), 'there is no object in any of the 8 images'),
    'no image id': (without('id', 'images'), '8 of the 8 images have no whole number as "id"'),
    'same image id': (every('id', lambda item: 1, of='images'), '7 of the 8 images have the id of another'),
    'no file_name': (without('file_name', 'images'), '8 of the 8 images have no "file_name"'),
    'no width': (without('width', 'images'), '8 of the 8 images have no "width" or "height"'),
    'text width': (every('width', lambda item: '96', of='images'), '8 of the 8 images have a "width" or "height" that'),
    'half a pixel': (every('width', lambda item: 95.5, of='images'), '8 of the 8 images have a "width" or "height"'),
    'zero byte': (every('file_name', lambda item: 'x\0.jpg', 8, 'images'), '1 of the 8 images has no "file_name"'),
    'half a character': (
        every('file_name', lambda item: '\ud800', 8, 'images'),
        '1 of the 8 images has no "file_name"',
    ),
    'missing files': (every('file_name', lambda item: 'x' + item['file_name'], 4, 'images'), '2 of the 8 images are m'),
    'other case': (every('file_name', lambda item: item['file_name'].upper(), 8, 'images'), 'the folder has 1.jpg for'),
    'swapped sizes': (swap_sizes, '8 of the 8 images have their width and height exchanged'),
    'other sizes': (every('width', lambda item: 192, 4, 'images'), '2 of the 8 images have another size than the file'),
    'no names': (without('name', 'categories'), '2 of the 2 categories have no "name"'),
    'same names': (every('name', lambda item: 'red', of='categories'), '1 value of "name" is of several cat'),
    'same category ids': (every('id', lambda item: 1, of='categories'), '1 value of "id" is of several categories'),
    'blanks': (every('name', lambda item: item['name'].title() + ' ', of='categories'), "where the file has 'Red '"),
    'other order': (lambda content: content['categories'].reverse(), 'order of the classes in the file is blue, red'),
    'no categories': (lambda content: content.pop('categories') and None, "has no 'categories' (its keys are images"),
    'a list': (lambda content: [content], 'take the dict out of the list'),
    'a dict of images': (lambda content: content | {'images': {}}, "'images' is a dict where a list of dicts belongs"),
    'a number among images': (lambda c: c['images'].append(3), "1 of the 9 items of 'images' are not dicts"),
}


@pytest.mark.parametrize('split', ['train', 'val'])
@pytest.mark.parametrize('name', FATAL)
def test_what_is_wrong_beyond_doubt_is_refused(tmp_path, name, split):
    change, sentence = FATAL[name]
    wrong, doubtful = look(make_set(tmp_path, change, split))
    if split == 'val' and name in ('areas of 0', 'all crowds'):  # there is less to measure, but nothing is left out
        assert not wrong and doubtful
    else:
        assert sentence in wrong and '\n' not in wrong


DOUBTFUL = {
    'areas of 0': (every('area', lambda item: 0, 2), '12 of the 24 annotations have an area of 0 or less'),
    'negative': (every('bbox', lambda item: [40, 40, -9, -9], 5), '5 of the 24 annotations have a box without width'),
    'no width': (every('bbox', lambda item: [4, 4, 0, 9], 5), '5 of the 24 annotations have a box without width'),
    'outside': (every('bbox', lambda item: [99, 4, 9, 9], 5), '5 of the 24 annotations have a box outside the image'),
    'tiny': (
        every('bbox', lambda item: [9, 4, 0.5, 9], 5),
        '5 of the 24 annotations have a box of less than one',
    ),
    'beyond': (every('bbox', lambda item: [90, 4, 50, 9], 5), '5 of the 24 annotations have a box that reaches beyond'),
    'large areas': (every('area', lambda item: 6000, 5), '5 of the 24 annotations have an area that is larger than'),
    'twice': (
        lambda c: c['annotations'].append(c['annotations'][0] | {'id': 99}),
        '1 of the 25 annotations has the i',
    ),
    'ignore': (setting('ignore', 1), '1 of the 24 annotations is marked by "ignore", which training leaves out'),
    'orphan': (setting('image_id', 99), '1 of the 24 annotations is of images that the file does not list'),
    'same file': (lambda c: c['images'].append(c['images'][0] | {'id': 99}), '1 of the 9 images is the file of anoth'),
    'a pixel': (every('width', lambda item: 97, 4, 'images'), '2 of the 8 images differ by one pixel from the size'),
    'no blue': (every('category_id', lambda item: 1), "1 of the 2 classes has no annotation to train on ('blue')"),
}


@pytest.mark.parametrize('name', DOUBTFUL)
def test_what_is_doubtful_is_one_warning_with_the_count(tmp_path, name):
    change, sentence = DOUBTFUL[name]
    wrong, doubtful = look(make_set(tmp_path, change))
    assert not wrong and sentence in doubtful and '\n' not in doubtful


@pytest.mark.parametrize(
    'change',
    [
        without('iscrowd'),
        fill,
        every('id', lambda item: item['id'] - 3),
        every('id', lambda item: float(item['id'])),
        every('image_id', lambda item: float(item['image_id'])),
        every('width', lambda item: 96.0, of='images'),
        lambda content: content['categories'].append({'id': 9, 'name': 'never used'}),
        lambda content: (
            [item.update(id=str(item['id'])) for item in content['images'] + content['annotations']]
            and every('image_id', lambda item: str(item['image_id']))(content)
        ),
    ],
)
@pytest.mark.parametrize('split', ['train', 'val'])
def test_what_is_unusual_and_right_is_let_through(tmp_path, change, split):
    assert look(make_set(tmp_path, change, split)) == ('', '')


def test_a_pipe_in_place_of_the_annotations_is_not_waited_for(tmp_path):
    cfg = make_set(tmp_path)
    path = Path(cfg['train_dataloader']['dataset']['data_root'], cfg['train_dataloader']['dataset']['ann_file'])
    path.unlink()
    os.mkfifo(path)
    assert 'the annotation file is not a regular file' in look(cfg)[0]


def test_what_is_left_out_is_counted_by_reason(tmp_path):
    def change(content):
        every('bbox', lambda item: [99, 4, 9, 9], 5)(content)
        content['annotations'][1]['iscrowd'] = 1
        content['annotations'][2]['ignore'] = True
        content['images'].append(content['images'][0] | {'id': 99, 'file_name': 'empty.jpg'})

    (found,) = check_data(make_set(tmp_path, change, filter_cfg={'filter_empty_gt': True})).splits
    assert found.left_out == {
        'images without an object': 1,
        'annotations with a box outside the image': 5,
        'annotations marked by "ignore"': 1,
        'annotations of crowds, which count neither as object nor as background': 1,
    }
    assert sum(found.classes.values()) == 24 - 7 and not found.errors  # the image that is left out may be missing


def test_the_limit_of_what_is_left_out_is_an_argument(tmp_path):
    cfg = make_set(tmp_path, every('bbox', lambda item: [99, 4, 9, 9], 5))
    for limit, is_refused in ((0.2, True), (0.21, False)):
        wrong, _ = look(cfg | {'data_check': {'max_left_out': limit}})
        assert ('5 of the 24 annotations cannot be used' in wrong) is is_refused
    assert 'set a fraction from 0 to 1' in look(cfg | {'data_check': {'max_left_out': 2}})[0]


@pytest.mark.parametrize('split', ['train', 'val'])
@pytest.mark.parametrize(
    ('value', 'sentence'),
    [
        (None, 'no "segmentation", or an empty one'),
        ([], 'no "segmentation", or an empty one'),
        ('text', 'a "segmentation" that is neither a list of polygons'),
        ([1, 2, 3, 4, 5, 6], 'a "segmentation" that is neither a list of polygons'),
        ([[1, 2, 3, math.nan, 5, 6]], 'a polygon with something that is not a number'),
        ([[1, 2, 3, None, 5, 6]], 'a polygon with something that is not a number'),
        ([[1, 2, 1e12, 4, 5, 1e12]], 'a polygon that is 2^20 pixels or more away'),
        ({'size': [WIDTH, HEIGHT], 'counts': [WIDTH * HEIGHT]}, 'run lengths of another size than the image'),
        ({'size': [HEIGHT, WIDTH], 'counts': [5, 6]}, 'run lengths that do not fill the image'),
        ({'size': [HEIGHT, WIDTH], 'counts': 'damaged\x01'}, 'run lengths that cannot be decoded'),
        ({'size': [HEIGHT, WIDTH], 'counts': 'PP'}, 'run lengths that cannot be decoded'),
        ({'size': [HEIGHT, WIDTH], 'counts': 'o' * 40 + '0'}, 'run lengths that cannot be decoded'),
        ({'size': [HEIGHT, WIDTH], 'counts': '11'}, 'run lengths that do not fill the image'),
        ({'size': [HEIGHT, WIDTH], 'counts': []}, 'run lengths without "counts"'),
        ({'size': [HEIGHT, WIDTH], 'counts': [-1, HEIGHT * WIDTH + 1]}, 'run lengths below 0'),
        ({'size': [HEIGHT, WIDTH]}, 'run lengths without "counts"'),
        ({'counts': [HEIGHT * WIDTH]}, 'run lengths without a "size"'),
    ],
)
def test_masks_that_cannot_be_read_are_refused_where_masks_are_needed(tmp_path, value, sentence, split):
    change = setting('segmentation', value)
    wrong, _ = look(make_set(tmp_path, change, split, masks=True))
    assert f'1 of the 24 annotations has {sentence}' in wrong and '1.jpg, annotation 4' in wrong
    assert look(make_set(tmp_path, change, split)) == ('', '')


@pytest.mark.parametrize('value', [[[1, 2, 3, 4]], [[1, 2, 3, 4, 5, 6, 7]]])
def test_short_polygons_are_left_out_in_training_and_refused_where_they_are_measured(tmp_path, value):
    change, sentence = setting('segmentation', value), '1 of the 24 annotations has a polygon of fewer than 6 numbers'
    wrong, doubtful = look(make_set(tmp_path, change, masks=True))
    assert not wrong and sentence in doubtful
    wrong, doubtful = look(make_set(tmp_path, change, 'val', masks=True))
    assert sentence in wrong and not doubtful


@pytest.mark.parametrize(
    ('value', 'sentence'),
    [
        ([[30, 30, 31, 31, 32, 32]], '1 of the 24 annotations has a mask whose polygons have no area'),
        (
            {'size': [HEIGHT, WIDTH], 'counts': [HEIGHT * WIDTH]},
            '1 of the 24 annotations has run lengths without a s',
        ),
        ({'size': [HEIGHT, WIDTH], 'counts': 'PP6'}, '1 of the 24 annotations has run lengths without a single pixel'),
    ],
)
def test_masks_without_a_pixel_are_doubtful(tmp_path, value, sentence):
    def change(content):
        content['annotations'][1] |= {'bbox': [20, 20, 30, 30], 'segmentation': value, 'area': 9}

    wrong, doubtful = look(make_set(tmp_path, change, masks=True))
    assert not wrong and sentence in doubtful


def test_masks_in_other_units_than_their_boxes_are_refused(tmp_path):
    change = every('segmentation', lambda item: [[v / 1000 for v in item['segmentation'][0]]])
    assert 'annotations have a mask that does not touch their box' in look(make_set(tmp_path, change, masks=True))[0]


def test_masks_of_run_lengths_are_let_through(tmp_path):
    rng = np.random.default_rng(0)
    texts, expected = [], []

    def change(content):
        for i, item in enumerate(content['annotations']):
            mask = np.zeros((HEIGHT, WIDTH), np.uint8, order='F')
            x, y, w, h = item['bbox']
            mask[y : y + h, x : x + w] = rng.integers(0, 2, (h, w))
            encoded = coco_masks.encode(mask)
            flat = mask.ravel('F')
            edges = np.flatnonzero(np.diff(flat)) + 1
            counts = np.diff(np.concatenate([[0], edges, [flat.size]])).tolist()
            counts = [0, *counts] if flat[0] else counts
            texts.append(encoded['counts'].decode())
            expected.append(counts)
            item['segmentation'] = {
                'size': [HEIGHT, WIDTH],
                'counts': encoded['counts'].decode() if i % 2 else counts,
            }

    assert look(make_set(tmp_path, change, masks=True)) == ('', '')
    runs, numbers, is_valid = decode_runs([*texts, 'damaged\x01'])
    assert numbers.tolist() == [len(counts) for counts in expected]
    assert runs.tolist() == [run for counts in expected for run in counts] and is_valid.tolist() == [True] * len(
        texts
    ) + [False]


@pytest.mark.parametrize(
    ('encode', 'sentence'),
    [
        (lambda text: b'\xef\xbb\xbf' + text.encode(), 'begins with a byte order mark'),
        (lambda text: text.encode('utf-16'), 'is in UTF-16: save it as UTF-8'),
        (lambda text: gzip.compress(text.encode()), 'is compressed: unpack it'),
        (lambda text: text.encode('utf-16-le'), 'is in UTF-16 or UTF-32: save it as UTF-8'),
        (lambda text: text.replace('red', 'röd').encode('latin-1'), 'is not UTF-8 (byte 0xf6 at position'),
        (lambda text: text.encode()[:-200], 'is cut off after'),
        (lambda text: b'', 'is empty'),
        (lambda text: b'{"images": [},', 'is not JSON (line 1, column 13'),
        (lambda text: b'[' * 100_000, 'is nested too deeply'),
        (lambda text: b'null', 'it holds a NoneType where'),
    ],
)
def test_a_file_that_is_no_json_is_a_sentence(tmp_path, encode, sentence):
    cfg = make_set(tmp_path)
    (tmp_path / 'set.json').write_bytes(encode((tmp_path / 'set.json').read_text().replace('red', 'röd', 0)))
    assert sentence in look(cfg)[0]
    (tmp_path / 'set.json').unlink()
    assert 'there is no such annotation file' in look(cfg)[0]


def test_exif_orientation_is_considered_as_the_pictures_will_be_read(tmp_path):
    wrong, _ = look(make_set(tmp_path, orientation=6))
    assert '8 of the 8 images are rotated by their EXIF orientation' in wrong and '1.jpg, id 1: 64 x 96 pixels' in wrong
    assert 'color_ignore_orientation' in wrong
    unturned = [{'type': 'LoadImageFromFile', 'color_type': 'color_ignore_orientation'}]
    assert look(make_set(tmp_path, orientation=6, pipeline=unturned)) == ('', '')

    def turn(content):
        swap_sizes(content)
        for item in content['annotations']:
            item['bbox'] = [5, 6, 20, 30]
            item['bbox'][0] += item['id'] / 9

    assert look(make_set(tmp_path, turn, orientation=6)) == ('', '')
    assert 'are not rotated by their EXIF' in look(make_set(tmp_path, turn, orientation=6, pipeline=unturned))[0]


def test_an_orientation_that_keeps_the_size_is_a_warning(tmp_path):
    wrong, doubtful = look(make_set(tmp_path, orientation=3))
    assert not wrong and '8 of the 8 images are rotated or mirrored by their EXIF orientation' in doubtful


@pytest.mark.parametrize('split', ['train', 'val'])
def test_a_picture_that_cannot_be_read_is_skipped_in_training_alone(tmp_path, split):
    cfg = make_set(tmp_path, split=split)
    (tmp_path / 'images' / '3.jpg').write_text('no picture')
    wrong, doubtful = look(cfg)
    assert '1 of the 8 images cannot be read (3.jpg, id 3: its content' in (doubtful if split == 'train' else wrong)
    assert bool(wrong) is (split == 'val')


def test_images_outside_indices_may_be_missing(tmp_path):
    change = every('file_name', lambda item: item['file_name'] if item['id'] < 5 else 'x.jpg', of='images')
    for indices, is_refused in ((4, False), ([0, 3], False), (-4, True), (None, True)):
        assert ('are missing' in look(make_set(tmp_path, change, indices=indices))[0]) is is_refused


@pytest.mark.parametrize('indices', [[0, 999], [-9], ['0']])
def test_indices_beyond_the_images_are_refused(tmp_path, indices):
    assert 'there are 8 images to choose from' in look(make_set(tmp_path, indices=indices))[0]


def test_an_evaluator_with_a_file_of_its_own_is_looked_at_too(tmp_path):
    cfg = make_set(tmp_path, split='val')
    other = make_content()
    del other['annotations'][3]['area']
    (tmp_path / 'other.json').write_text(json.dumps(other))
    cfg['val_evaluator'] = [cfg['val_evaluator'] | {'ann_file': str(tmp_path / 'other.json')}]
    wrong, _ = look(cfg)
    assert wrong.startswith(f'val data {tmp_path / "other.json"}: 1 of the 24 annotations has no "area"')


def test_only_predicting_needs_no_annotations(tmp_path):
    cfg = make_set(tmp_path, lambda content: content.pop('annotations') and None, split='test')
    assert "has no 'annotations'" in look(cfg)[0]
    cfg['test_evaluator'] |= {'format_only': True}
    assert look(cfg) == ('', '')


def test_images_that_are_trained_and_measured_on_are_a_warning(tmp_path):
    train, val = make_set(tmp_path), make_config(tmp_path, 'val')
    wrong, doubtful = look(train | val)
    assert not wrong and '8 of the 8 images are in the training data too' in doubtful


def test_data_that_splits_share_is_looked_at_once_and_said_once(tmp_path, monkeypatch):
    cfg = make_set(tmp_path, without('area'), 'val') | make_config(tmp_path, 'test')
    report = check_data(cfg)
    assert [split.split for split in report.splits] == ['val', 'test']
    (sentence,) = report.errors()
    assert sentence.startswith(f'val and test data {tmp_path / "set.json"}: 24 of the 24 annotations have no "area"')
    assert report.errors(['test'])[0].startswith('test data')


def test_classes_that_are_one_string_are_refused(tmp_path):
    assert "write metainfo=dict(classes=('red',))" in look(make_set(tmp_path, metainfo={'classes': 'red'}))[0]


def test_datasets_of_other_kinds_are_left_alone(tmp_path):
    content = make_content()
    write_images(tmp_path, content)
    cfg = make_config(tmp_path)
    cfg['train_dataloader']['dataset']['type'] = 'VOCDataset'
    assert not check_data(cfg).splits
    assert not check_data({'default_scope': 'mmdet', 'train_dataloader': object()}).splits
