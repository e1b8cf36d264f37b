"""Boxes in the formats in which people have them: what is read, split and written as COCO files."""

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from mae_toolkit.datasets.labels.boxes import LabeledImage, to_object
from mae_toolkit.datasets.labels.find import prepare_boxes, read_boxes, split_boxes, write_coco
from mae_toolkit.datasets.labels.splits import Shares, find_split, split_images
from mae_toolkit.errors import UserError

ROOT = Path(__file__).resolve().parents[1]
TINY = ROOT / 'mae_toolkit' / 'data' / 'tiny'
VOC = """<annotation><filename>{name}</filename><size><width>{size[0]}</width><height>{size[1]}</height><depth>3</depth>
</size>{objects}</annotation>"""
VOC_OBJECT = """<object><name>{0}</name><bndbox>
<xmin>{1}</xmin><ymin>{2}</ymin><xmax>{3}</xmax><ymax>{4}</ymax></bndbox>
</object>"""


def picture(path, size=(40, 20), orientation=None):
    """Write a picture of (width, height)."""
    path.parent.mkdir(parents=True, exist_ok=True)
    image = Image.fromarray(np.full((size[1], size[0], 3), 90, np.uint8))
    exif = Image.Exif()
    if orientation:
        exif[0x0112] = orientation
    image.save(path, exif=exif)
    return path


def text(path, content):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(content)
    return path


def voc(path, size, *objects, name='x.jpg'):
    return text(path, VOC.format(name=name, size=size, objects=''.join(VOC_OBJECT.format(*o) for o in objects)))


def boxes_of(labels):
    """Boxes by the name of the image: (class, left, top, width, height)."""
    return {image.path.name: [(item['category'], *item['bbox']) for item in image.objects] for image in labels.images}


def test_yolo_in_folders_of_images_and_labels(tmp_path):
    pytest.importorskip('supervision', reason='reads YOLO: pip install -e .[labels]')
    for split in ('train', 'valid'):
        picture(tmp_path / split / 'images' / f'{split}.jpg')
        picture(tmp_path / split / 'images' / f'{split}-none.jpg')
        text(tmp_path / split / 'labels' / f'{split}.txt', '1 0.5 0.5 0.25 0.5\n0 0.1 0.1 0.2 0.2\n')
        text(tmp_path / split / 'labels' / f'{split}-none.txt', '')
    text(tmp_path / 'data.yaml', 'train: ../train/images\nval: ../valid/images\nnc: 2\nnames: [nut, bolt]\n')
    for data in (tmp_path, tmp_path / 'data.yaml'):
        labels = read_boxes(data)
        assert labels.format == 'YOLO' and labels.classes == ['nut', 'bolt']
        assert {split: len(images) for split, images in labels.splits.items()} == {'train': 2, 'val': 2}
        objects = [('bolt', 15.0, 5.0, 10.0, 10.0), ('nut', 0.0, 0.0, 8.0, 4.0)]
        assert boxes_of(labels)['train.jpg'] == objects and boxes_of(labels)['train-none.jpg'] == []
        assert not labels.has_masks and labels.images[0].size == (20, 40)


def test_yolo_beside_images_without_a_list_of_names(tmp_path):
    pytest.importorskip('supervision', reason='reads YOLO: pip install -e .[labels]')
    for i in range(4):
        picture(tmp_path / f'{i}.png')
        text(tmp_path / f'{i}.txt', f'{i % 2} 0.5 0.5 0.5 0.5\n')
    assert read_boxes(tmp_path).classes == ['class 0', 'class 1']
    text(tmp_path / 'classes.txt', 'left\nright\n')
    assert read_boxes(tmp_path).classes == ['left', 'right']


def test_yolo_polygons_are_outlines_and_rotated_images_are_measured_as_they_are_shown(tmp_path):
    pytest.importorskip('supervision', reason='reads YOLO: pip install -e .[labels]')
    picture(tmp_path / 'a.jpg', (40, 20), orientation=6)  # shown 20 wide and 40 high
    text(tmp_path / 'a.txt', '0 0.1 0.1 0.6 0.1 0.6 0.5\n')
    text(tmp_path / 'data.yaml', 'names: {0: leaf}\n')
    (image,) = read_boxes(tmp_path).images
    assert image.size == (40, 20) and read_boxes(tmp_path).has_masks
    (leaf,) = image.objects
    assert leaf['segmentation'] == [[2.0, 4.0, 12.0, 4.0, 12.0, 20.0]]
    assert leaf['bbox'] == [2.0, 4.0, 10.0, 16.0] and leaf['area'] == 80.0


def test_voc_counts_pixels_from_one_and_the_last_one_belongs_to_the_object(tmp_path):
    pytest.importorskip('supervision', reason='reads Pascal VOC: pip install -e .[labels]')
    picture(tmp_path / 'JPEGImages' / 'a.jpg')
    picture(tmp_path / 'JPEGImages' / 'b.jpg')
    picture(tmp_path / 'JPEGImages' / 'unlabeled.jpg')
    voc(tmp_path / 'Annotations' / 'a.xml', (40, 20), ('dog', 1, 1, 40, 20), ('cat', 11, 6, 20, 15))
    voc(tmp_path / 'Annotations' / 'b.xml', (40, 20))
    labels = read_boxes(tmp_path)
    assert labels.format == 'Pascal VOC' and labels.classes == ['cat', 'dog']
    whole, part = ('dog', 0.0, 0.0, 40.0, 20.0), ('cat', 10.0, 5.0, 10.0, 10.0)
    assert boxes_of(labels) == {'a.jpg': [whole, part], 'b.jpg': []}
    assert any('1 image without an XML file' in note for note in labels.notes)
    for split, name in (('train', 'a'), ('val', 'b')):
        text(tmp_path / 'ImageSets' / 'Main' / f'{split}.txt', f'{name}\n')
    assert {split: len(images) for split, images in read_boxes(tmp_path).splits.items()} == {'train': 1, 'val': 1}


def test_voc_boxes_of_an_image_before_its_rotation_are_refused_by_the_check_of_the_data(tmp_path):
    pytest.importorskip('supervision', reason='reads Pascal VOC: pip install -e .[labels]')
    picture(tmp_path / 'a.jpg', (40, 20), orientation=6)
    voc(tmp_path / 'a.xml', (40, 20), ('dog', 1, 1, 40, 20))
    assert read_boxes(tmp_path).images[0].size == (20, 40)  # which is not that of the image as it is shown
    voc(tmp_path / 'a.xml', (20, 40), ('dog', 1, 1, 20, 40))
    assert read_boxes(tmp_path).images[0].size == (40, 20)


def test_voc_boxes_with_swapped_corners_are_named(tmp_path):
    pytest.importorskip('supervision', reason='reads Pascal VOC: pip install -e .[labels]')
    picture(tmp_path / 'a.png')
    voc(tmp_path / 'a.xml', (40, 20), ('dog', 30, 5, 11, 20), ('dog', 1, 9, 4, 8), ('dog', 1, 1, 4, 4))
    labels = read_boxes(tmp_path)
    assert boxes_of(labels)['a.png'][0] == ('dog', 10, 4, 20, 16)
    (note,) = [note for note in labels.notes if 'wrong order' in note]
    assert '2 pairs of corners' in note and 'a.xml: xmin 30, xmax 11' in note and 'ymin 9, ymax 8' in note


def test_coco_in_one_file_finds_its_images_and_keeps_masks(tmp_path):
    labels = read_boxes(TINY / 'dsb2018' / 'annotations' / 'train.json')
    assert labels.format == 'COCO' and labels.classes == ['nucleus'] and labels.has_masks
    assert set(labels.splits) == {'train', 'val'}  # val.json lies beside it
    root = write_coco(labels, tmp_path)
    given = json.loads((TINY / 'dsb2018' / 'annotations' / 'train.json').read_text())
    written = json.loads((tmp_path / 'train.json').read_text())
    assert (root / written['images'][0]['file_name']).is_file()
    assert [item['bbox'] for item in written['annotations']] == [item['bbox'] for item in given['annotations']]
    assert [item['id'] for item in written['annotations']] == list(range(1, len(given['annotations']) + 1))
    assert all(item['segmentation'] for item in written['annotations'])


def test_a_category_without_an_object_is_left_out_and_the_others_keep_their_objects(tmp_path):
    picture(tmp_path / 'a.png')
    picture(tmp_path / 'b.png')
    content = {
        'images': [{'id': i, 'file_name': name, 'width': 40, 'height': 20} for i, name in ((5, 'a.png'), (7, 'b.png'))],
        'categories': [{'id': 0, 'name': 'things'}, {'id': 4, 'name': 'nut'}],
        'annotations': [{'id': i, 'image_id': i, 'category_id': 4, 'bbox': [1, 2, 3, 4]} for i in (5, 7)],
    }
    text(tmp_path / 'annotations.json', json.dumps(content))
    labels = prepare_boxes(tmp_path / 'annotations.json')
    assert labels.classes == ['nut'] and any('things' in note for note in labels.notes)
    assert {split: len(images) for split, images in labels.splits.items()} == {'train': 1, 'val': 1}
    written = write_coco(labels, tmp_path / 'out')
    item = json.loads((tmp_path / 'out' / 'train.json').read_text())['annotations'][0]
    assert written == tmp_path and item['category_id'] == 1 and item['area'] == 12


def test_rectangles_as_outlines_are_boxes():
    rectangle = [1.0, 2.0, 9.0, 2.0, 9.0, 8.0, 1.0, 8.0]
    image = LabeledImage(Path('/a.png'), (20, 40), [to_object('a', (1, 2, 9, 8), (20, 40), rectangle)])
    from mae_toolkit.datasets.labels.boxes import BoxLabels

    assert not BoxLabels('COCO', ['a'], {'all': [image]}).has_masks
    image.objects[0]['segmentation'] = [[1.0, 2.0, 9.0, 3.0, 9.0, 8.0, 1.0, 8.0]]
    assert BoxLabels('COCO', ['a'], {'all': [image]}).has_masks


@pytest.mark.parametrize(
    ('name', 'split'),
    [
        ('instances_train2017.json', 'train'),
        ('valid/_annotations.coco.json', 'val'),
        ('labels/test', 'test'),
        ('annotations.json', None),
        ('train_val.json', None),
    ],
)
def test_names_tell_the_split(name, split):
    assert find_split(name) == split


def test_a_split_is_that_of_its_seed_spreads_classes_and_trains_on_the_rare():
    strata = ['a'] * 40 + ['b'] * 20 + ['rare']
    splits = split_images(strata, Shares(0.2, 0.1), seed=0)
    assert splits == split_images(strata, Shares(0.2, 0.1), seed=0) != split_images(strata, Shares(0.2, 0.1), seed=1)
    assert sorted(i for part in splits.values() for i in part) == list(range(61))
    assert {name: len(part) for name, part in splits.items()} == {'train': 43, 'val': 12, 'test': 6}
    assert 60 in splits['train'] and [sum(strata[i] == 'a' for i in splits[s]) for s in ('val', 'test')] == [8, 4]


def test_labels_without_splits_are_split_at_random_and_say_so(tmp_path):
    file = text(tmp_path / 'boxes.json', (TINY / 'bccd' / 'annotations' / 'train.json').read_text())
    labels = split_boxes(read_boxes(file, TINY / 'bccd' / 'images'))
    assert {split: len(images) for split, images in labels.splits.items()} == {'train': 44, 'val': 10, 'test': 10}
    assert all(set().union(*(i.classes for i in images)) == set(labels.classes) for images in labels.splits.values())
    assert 'split at random with seed 0: 44 train, 10 val, 10 test' in labels.notes


def _lost_images(folder):
    content = json.loads((TINY / 'bccd' / 'annotations' / 'val.json').read_text())
    for image in content['images'][:2]:
        image['file_name'] = f'lost-{image["file_name"]}'
    return text(folder / 'boxes.json', json.dumps(content)), TINY / 'bccd' / 'images'


def _labels_without_images(folder):
    picture(folder / 'a.png')
    text(folder / 'a.txt', '0 0.5 0.5 0.5 0.5\n')
    text(folder / 'b.txt', '0 0.5 0.5 0.5 0.5\n')
    return folder, None


def _classes_beyond(folder):
    picture(folder / 'a.png')
    text(folder / 'a.txt', '0 0.5 0.5 0.5 0.5\n3 0.5 0.5 0.5 0.5\n')
    text(folder / 'data.yaml', 'names: [nut, bolt]\n')
    return folder, None


def _bad_line(folder):
    picture(folder / 'a.png')
    text(folder / 'a.txt', '0 0.5 0.5 0.5 -0.5\n')
    return folder, None


def _bad_xml(folder):
    picture(folder / 'a.png')
    text(folder / 'a.xml', '<annotation>')
    return folder, None


def _xml_without_image(folder):
    picture(folder / 'a.png')
    voc(folder / 'b.xml', (40, 20), ('dog', 1, 1, 4, 4))
    return folder, None


def _class_without_training(folder):
    for name in ('train', 'val'):
        picture(folder / 'images' / name / f'{name}.png')
        text(folder / 'labels' / name / f'{name}.txt', f'{int(name == "val")} 0.5 0.5 0.5 0.5\n')
    return text(folder / 'data.yaml', 'train: images/train\nval: images/val\nnames: [nut, bolt]\n'), None


def _no_labels(folder):
    return picture(folder / 'a.png').parent, None


def _latin1_names(folder):
    picture(folder / 'a.png')
    text(folder / 'a.txt', '0 0.5 0.5 0.5 0.5\n')
    (folder / 'classes.txt').write_bytes('café\n'.encode('latin-1'))
    return folder, None


def _latin1_yaml(folder):
    _latin1_names(folder)
    (folder / 'data.yaml').write_bytes('names: [café]\n'.encode('latin-1'))
    return folder, None


def _empty(folder):
    content = {'images': [], 'annotations': [], 'categories': []}
    return text(folder / 'boxes.json', json.dumps(content)), folder


def _no_object(folder):
    for i in range(4):
        picture(folder / f'{i}.png')
        text(folder / f'{i}.txt', '')
    return text(folder / 'data.yaml', 'train: .\nnames: [nut]\n'), None


@pytest.mark.parametrize(
    ('make', 'words'),
    [
        (_lost_images, ['2 of the 16 images', 'lost-', '--images']),
        (_labels_without_images, ['1 of the 2 text files', 'b.txt']),
        (_classes_beyond, ['1 object in 1 text file', 'a.txt', 'class 3', 'data.yaml names 2', 'nut, bolt']),
        (_bad_line, ['a.txt', '-0.5']),
        (_bad_xml, ['a.xml', 'not XML']),
        (_xml_without_image, ['1 of the 1 XML files', 'b.xml']),
        (_class_without_training, ['1 of the 2 classes has no training image', 'bolt']),
        (_no_labels, ['holds no labels', '1 of .png']),
        (_latin1_names, ['classes.txt', 'not in UTF-8', r'caf\xe9']),
        (_latin1_yaml, ['data.yaml', 'not in UTF-8', r'caf\xe9']),
        (_empty, ['no image']),
        (_no_object, ['no object']),
    ],
)
def test_labels_that_cannot_be_trained_on_are_refused_in_one_sentence(tmp_path, make, words):
    pytest.importorskip('supervision', reason='reads YOLO and Pascal VOC: pip install -e .[labels]')
    data, images = make(tmp_path)
    with pytest.raises(UserError) as refusal:
        prepare_boxes(data, images)
    for word in words:
        assert word in str(refusal.value)
