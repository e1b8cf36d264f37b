"""Normal images that a list names, and defects that are boxes in COCO's JSON."""

import json
import shutil

import numpy as np
import pytest
from PIL import Image

from anomaly_sets import SMALL, make_things
from mae_toolkit.apis import fit_anomaly_detector
from mae_toolkit.errors import UserError
from mae_toolkit.evaluation.anomaly.boxes import list_boxed
from mae_toolkit.evaluation.anomaly.layout import list_normal, read_mask
from tiny import refuse, run_here


@pytest.fixture(scope='module')
def things(tmp_path_factory):
    """A category whose masks are boxes, and the same as ``boards``: images, templates and two COCO files."""
    root = make_things(tmp_path_factory.mktemp('things'))
    boards = root / 'boards'
    shutil.copytree(root / 'bottle' / 'train' / 'good', boards / 'templates')
    for path in sorted((root / 'bottle' / 'test' / 'good').iterdir()):
        shutil.copy(path, boards / 'templates' / f'test{path.name}')
    shutil.copytree(root / 'bottle' / 'test' / 'cut', boards / 'images')
    shutil.copy(boards / 'images' / '000.png', boards / 'images' / 'of_another_split.png')
    boxes = [box_of(root / 'bottle' / 'ground_truth' / 'cut' / f'{number:03}_mask.png') for number in range(4)]
    write_coco(boards / 'test.json', {f'{number:03}.png': [box] for number, box in enumerate(boxes)})
    write_coco(boards / 'train.json', {f'{number:03}.png': [] for number in range(12)})
    (boards / 'test.txt').write_text('# templates of the test\n' + ''.join(f'test{n:03}.png\n' for n in range(4)))
    return root


@pytest.fixture(scope='module')
def detector(things):
    return fit_anomaly_detector(things / 'encoder', things / 'bottle', **SMALL)


def box_of(mask):
    """The box [left, top, width, height] that a mask is."""
    rows, columns = np.nonzero(np.array(Image.open(mask)))
    left, top = int(columns.min()), int(rows.min())
    return [left, top, int(columns.max()) + 1 - left, int(rows.max()) + 1 - top]


def write_coco(path, boxes, size=(64, 48)):
    """An annotation file with the boxes of images by their names."""
    images = [{'id': i, 'file_name': name, 'height': size[0], 'width': size[1]} for i, name in enumerate(boxes)]
    pairs = [(i, box) for i, mine in enumerate(boxes.values()) for box in mine]
    annotations = [{'id': n, 'image_id': i, 'category_id': 1, 'bbox': box} for n, (i, box) in enumerate(pairs, 1)]
    content = {'images': images, 'annotations': annotations, 'categories': [{'id': 1, 'name': 'good'}]}
    path.write_text(json.dumps(content))
    return path


def test_boxes_measure_as_masks_of_the_same_pixels(things, detector):
    boards = things / 'boards'
    by_masks = detector.evaluate(things / 'bottle')['measured']['bottle']
    normal = {'normal': boards / 'templates', 'normal_list': boards / 'test.txt'}
    result = detector.evaluate(boards / 'images', boxes=boards / 'test.json', **normal)
    assert result['measured']['images'] == by_masks and by_masks['pixel_auroc'] < 1
    assert [one['kind'] for one in result['images']] == ['defective'] * 4 + ['good'] * 4


def test_boxes_are_filled(things, tmp_path):
    boxes = {'000.png': [[2, 3, 4, 5], [4.5, 3, 2.2, 1], [-0.5, 60, 3, 4.5]], '001.png': []}
    defective, normal = list_boxed(things / 'boards' / 'images', write_coco(tmp_path / 'some.json', boxes))
    mask = np.zeros((64, 48), bool)
    mask[3:8, 2:6], mask[3, 4:7], mask[60:, :3] = True, True, True
    assert (read_mask(defective, (64, 48)) == mask).all() and defective.is_defective
    assert not read_mask(normal, (64, 48)).any() and not normal.is_defective  # COCO: looked at, and nothing found


def test_lists_name_normal_images(things, tmp_path):
    boards = things / 'boards'
    (named,) = list_normal(boards / 'templates', boards / 'train.json')
    assert named.category == 'templates' and [path.name for path in named.paths] == [f'{n:03}.png' for n in range(12)]
    listed = {'normal_list': boards / 'train.json', 'held_out_list': boards / 'test.txt'}
    one = fit_anomaly_detector(
        things / 'encoder', boards / 'templates', held_out_images=boards / 'templates', **listed, **SMALL
    )
    bottle = things / 'bottle'
    other = fit_anomaly_detector(things / 'encoder', bottle, held_out_images=bottle / 'test' / 'good', **SMALL)
    assert one.detector.thresholds == other.detector.thresholds and one.about['fitted_images'] == 12


def test_an_image_of_both_files_is_counted_once(things, tmp_path):
    images = things / 'boards' / 'images'
    file = write_coco(tmp_path / 'some.json', {'000.png': [[2, 3, 4, 5]], '001.png': []})
    (tmp_path / 'normal.txt').write_text('001.png\n002.png\n002.png\n')
    found = list_boxed(images, file, images, tmp_path / 'normal.txt')
    assert [(one.path.name, one.kind) for one in found] == [
        ('000.png', 'defective'),
        ('001.png', 'good'),
        ('002.png', 'good'),
    ]


@pytest.mark.parametrize(
    ('boxes', 'said'),
    [
        ({'nowhere.png': [[0, 0, 4, 4]]}, r'images lacks 1 image of the 1 that .*some.json names \(nowhere.png\)'),
        ({'000.png': []}, r'some.json has 1 image and no boxes'),
        ({'000.png': [[40, 0, 10, 4]]}, r'the box \[40, 0, 10, 4\] .* does not lie in 000.png, of 64 x 48 pixels'),
        ({'000.png': [[4, 4, 0, 4]]}, r'is empty'),
        ({'000.png': [[47.9, 4, 0.1, -4]]}, r'is empty'),
        ({'000.png': [[float('nan'), 4, 4, 4]]}, r'is empty or does not lie'),
        ({'000.png': [[4, 4, 4]]}, r'annotations\[0\] has the "bbox" \[4, 4, 4\]: expected is \[left'),
        ({'000.png': [[4, 4, 4, '4']]}, r'annotations\[0\] has the "bbox"'),
    ],
    ids=str,
)
def test_boxes_that_do_not_fit_are_refused(things, tmp_path, boxes, said):
    with pytest.raises(UserError, match=said):
        list_boxed(things / 'boards' / 'images', write_coco(tmp_path / 'some.json', boxes))


def test_files_that_do_not_fit_are_refused(things, tmp_path):
    images, templates = things / 'boards' / 'images', things / 'boards' / 'templates'
    box = {'000.png': [[2, 3, 4, 5]]}
    with pytest.raises(UserError, match=r'000.png has 64 x 48 pixels, and .*some.json says 48 x 64'):
        list_boxed(images, write_coco(tmp_path / 'some.json', box, (48, 64)))
    file = write_coco(tmp_path / 'some.json', box)
    with pytest.raises(
        UserError, match=r'1 of the 5 images of .*images that are to be normal have boxes in .*some.json \(000.png\)'
    ):
        list_boxed(images, file, images)
    with pytest.raises(UserError, match='There is no folder .*nowhere'):
        list_boxed(images, file, tmp_path / 'nowhere')
    with pytest.raises(UserError, match='There is no folder .*nowhere'):
        list_boxed(tmp_path / 'nowhere', file)
    with pytest.raises(UserError, match='There is no file .*lost.txt'):
        list_boxed(images, file, templates, tmp_path / 'lost.txt')
    with pytest.raises(UserError, match='A list of normal images is given'):
        list_boxed(images, file, None, tmp_path / 'lost.txt')
    with pytest.raises(UserError, match=r'lost.json: there is no such annotation file'):
        list_boxed(images, tmp_path / 'lost.json')
    content = json.loads(file.read_text())
    for changed, said in (
        ({'images': content['images'] * 2}, 'names 1 image twice'),
        ({'images': [content['images'][0], content['images'][0] | {'file_name': '001.png'}]}, 'that of another'),
        ({'annotations': [content['annotations'][0] | {'image_id': 7}]}, r'1 annotation of images .*\(image_id 7\)'),
        ({'annotations': {}}, "'annotations' is a dict"),
    ):
        (tmp_path / 'other.json').write_text(json.dumps(content | changed))
        with pytest.raises(UserError, match=said):
            list_boxed(images, tmp_path / 'other.json')


def test_lists_that_do_not_fit_are_refused(things, detector):
    boards = things / 'boards'
    with pytest.raises(UserError, match='lists the normal images of one folder, and 2 folders are given'):
        list_normal([boards / 'images', boards / 'templates'], boards / 'test.txt')
    with pytest.raises(UserError, match=r'images lacks 4 images of the 4 that .*test.txt names \(test000.png, '):
        list_normal(boards / 'images', boards / 'test.txt')
    with pytest.raises(UserError, match='A list of held-out images is given'):
        fit_anomaly_detector(things / 'encoder', boards / 'templates', held_out_list=boards / 'test.txt', **SMALL)
    with pytest.raises(UserError, match='Normal images are named by .*templates, and no boxes'):
        detector.evaluate(things / 'bottle', normal=boards / 'templates')


def test_the_tool_reads_lists_and_boxes(things, tmp_path):
    boards, file = things / 'boards', tmp_path / 'boards.safetensors'
    common = '--device', 'cpu'
    fit = 'fit', things / 'encoder', boards / 'templates', '--normal-list', boards / 'train.json', '--out', file
    assert 'fitted on 10 normal images' in run_here('anomaly', *fit, *common, plain=True)
    held_out = '--held-out-images', boards / 'templates', '--held-out-list', boards / 'test.txt'
    text = run_here('anomaly', *fit, *held_out, *common, plain=True)
    assert 'fitted on 12 normal images' in text and 'percentile 95 of 4 normal images, held out' in text
    normal = '--normal', boards / 'templates', '--normal-list', boards / 'test.txt'
    evaluate = 'evaluate', file, boards / 'images', '--boxes', boards / 'test.json', *common
    text = run_here('anomaly', *evaluate, *normal, '--out', tmp_path / 'measured.json', plain=True)
    assert 'images: 4 normal, 4 defective' in text
    assert json.loads((tmp_path / 'measured.json').read_text())['measured']['images']['max']['auroc'] == 1
    assert 'which should name images' in refuse('anomaly', *evaluate, *normal[:3], 'lost.txt', plain=True)
