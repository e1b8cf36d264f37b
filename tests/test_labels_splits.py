"""Splits that labels name are kept, and what is in none of them is counted, whatever the format."""

import json

import pytest

from mae_toolkit.datasets.labels.classes import prepare_classes
from mae_toolkit.datasets.labels.find import prepare_boxes
from mae_toolkit.datasets.labels.masks import prepare_masks
from mae_toolkit.datasets.labels.splits import complete_splits, find_folder_splits, settle_splits
from mae_toolkit.errors import UserError
from test_labels_boxes import picture, text, voc
from test_labels_masks_classes import save


def write_masks(folder, split, names):
    for name in names:
        save(folder / 'images' / split / f'{name}.png')
        save(folder / 'masks' / split / f'{name}.png', [0, 1])


def write_yolo(folder, split, names):
    for name in names:
        picture(folder / 'images' / split / f'{name}.png')
        text(folder / 'labels' / split / f'{name}.txt', '0 0.5 0.5 0.5 0.5\n')


def write_voc(folder, split, names):
    for name in names:
        picture(folder / 'JPEGImages' / split / f'{name}.png')
        voc(folder / 'Annotations' / split / f'{name}.xml', (40, 20), ('dog', 1, 1, 9, 9))


def write_coco(folder, split, names):
    for name in names:
        picture(folder / 'images' / f'{name}.png')
    content = {
        'images': [{'id': i, 'file_name': f'{name}.png', 'width': 40, 'height': 20} for i, name in enumerate(names)],
        'categories': [{'id': 0, 'name': 'dog'}],
        'annotations': [{'id': i, 'image_id': i, 'category_id': 0, 'bbox': [1, 2, 3, 4]} for i in range(len(names))],
    }
    text(folder / 'annotations' / f'{split or "rest"}.json', json.dumps(content))


def write_classes(folder, split, names):
    for i, name in enumerate(names):
        save(folder / split / 'ab'[i % 2] / f'{name}.png')


def write_table(folder, split, names):
    for name in names:
        save(folder / f'{name}.png')
    table = folder / 'labels.csv'
    rows = table.read_text() if table.is_file() else 'file,label,split\n'
    table.write_text(rows + ''.join(f'{name}.png,{"ab"[i % 2]},{split}\n' for i, name in enumerate(names)))


FORMATS = {
    'masks': (write_masks, prepare_masks),
    'YOLO': (write_yolo, prepare_boxes),
    'Pascal VOC': (write_voc, prepare_boxes),
    'COCO': (write_coco, prepare_boxes),
    'class folders': (write_classes, prepare_classes),
    'CSV': (write_table, lambda folder: prepare_classes(folder / 'labels.csv')),
}


WITHOUT_TRAINING = [form for form in FORMATS if form != 'class folders']  # called val and test, they are classes


@pytest.fixture(params=FORMATS)
def form(request):
    """A format of labels."""
    if request.param in ('YOLO', 'Pascal VOC'):
        pytest.importorskip('supervision', reason='reads YOLO and Pascal VOC: pip install -e .[labels]')
    return request.param


def prepare(form, folder, **counts):
    """Labels of some images for each split; those of ``rest`` are in none."""
    write, read = FORMATS[form]
    for split, count in counts.items():
        write(folder, '' if split == 'rest' else split, [f'{split}{i}' for i in range(count)])
    return read(folder)


def names_of(labels):
    """Names of the images of each split."""
    paths = {
        split: [item[0] if isinstance(item, tuple) else getattr(item, 'image', None) or item.path for item in items]
        for split, items in labels.splits.items()
    }
    return {split: sorted(path.stem for path in part) for split, part in paths.items()}


def test_what_is_in_no_split_is_left_out_and_counted(tmp_path, form):
    if form == 'class folders':
        write_classes(tmp_path, 'more', ['x', 'y', 'z'])  # images at the top would lie in no class folder
        labels = prepare(form, tmp_path, train=4, val=2)
    else:
        labels = prepare(form, tmp_path, train=4, val=2, rest=3)
    assert names_of(labels) == {'train': [f'train{i}' for i in range(4)], 'val': ['val0', 'val1']}
    left_out = [note for note in labels.notes if 'left out' in note]
    counted = '1 of the 3 JSON files (rest.json)' if form == 'COCO' else '3 of the 9 labeled images'
    assert len(left_out) == 1 and counted in left_out[0], labels.notes
    assert 'splits are those of the data' in labels.notes


def test_the_images_of_a_test_are_never_trained_on(tmp_path, form):
    labels = prepare(form, tmp_path, train=40, test=5)
    names = names_of(labels)
    assert names['test'] == [f'test{i}' for i in range(5)]
    assert len(names['val']) == 6 and len(names['train']) == 34
    assert any('val split off training at random with seed 0: 34 train, 6 val, 5 test' in n for n in labels.notes)


@pytest.mark.parametrize('form', WITHOUT_TRAINING, indirect=True)
def test_beside_a_test_alone_the_others_are_trained_on(tmp_path, form):
    labels = prepare(form, tmp_path, rest=40, test=5)
    names = names_of(labels)
    assert names['test'] == [f'test{i}' for i in range(5)] and len(names['train']) == 34
    assert any('no split is called train: the 40 images that are in no split are trained on' in n for n in labels.notes)


@pytest.mark.parametrize('form', WITHOUT_TRAINING, indirect=True)
def test_validation_and_test_without_training_are_refused(tmp_path, form):
    with pytest.raises(UserError, match='6 images for val and 4 images for test, and none for training: call'):
        prepare(form, tmp_path, val=6, test=4)


def test_images_without_splits_are_split_whatever_the_folder_of_the_data_is_called(tmp_path, form):
    rest = {'train': 40} if form == 'class folders' else {'rest': 40}
    labels = prepare(form, tmp_path / 'test', **rest)
    assert {split: len(names) for split, names in names_of(labels).items()} == {'train': 28, 'val': 6, 'test': 6}


def test_a_split_without_an_image_is_refused():
    with pytest.raises(UserError, match='names the splits train, val, and none of its 3 labeled images is of val'):
        settle_splits({'train': [1, 2], 'val': [], 'all': [3]})


def test_splits_of_the_data_are_not_drawn():
    splits = {'train': [1, 2], 'val': [3]}
    assert complete_splits(splits, lambda items: items, 0) == (splits, ['splits are those of the data'])


def test_folders_tell_splits_if_not_all_files_lie_in_them(tmp_path):
    def find(*names):
        return find_folder_splits([tmp_path.relative_to(tmp_path) / name for name in names])

    assert find('my-test/train/1.png', 'my-test/val/1.png') == ['train', 'val']
    assert find('my-test/1.png', 'my-test/a/2.png') == [None, None]
    assert find('test_2/train/1.png', 'other/val/2.png', '3.png') == ['train', 'val', None]
    assert find('img/train2017/1.png', 'img/test2017/2.png') == ['train', 'test']
    assert find() == []


def list_names(folder, **lists):
    for name, names in lists.items():
        text(folder / f'{name}.txt', '\n'.join(names) + '\n')


def test_the_lists_of_pascal_voc_are_read_without_those_that_repeat_others(tmp_path):
    names = {'train': ['2007_01', '2007_02.v1'], 'val': ['2007_03']}
    lists = names | {
        'trainval': [*names['train'], *names['val']],
        'dog_train': ['2007_03 -1'],
        'dog_val': ['2007_01 1'],
    }
    list_names(tmp_path / 'ImageSets' / 'Segmentation', **lists)
    list_names(tmp_path / 'ImageSets' / 'Main', **lists)
    for name in [*lists['trainval'], '2007_04']:
        save(tmp_path / 'JPEGImages' / f'{name}.jpg')
        save(tmp_path / 'SegmentationClass' / f'{name}.png', [0, 1])
        voc(tmp_path / 'Annotations' / f'{name}.xml', (8, 8), ('dog', 1, 1, 4, 4))
    labels = prepare_masks(tmp_path)
    assert names_of(labels) == names
    assert any('1 of the 4 labeled images are in none of the splits (train, val)' in note for note in labels.notes)
    pytest.importorskip('supervision', reason='reads Pascal VOC: pip install -e .[labels]')
    labels = prepare_boxes(tmp_path)
    assert names_of(labels) == names
    assert any('1 of the 4 labeled images are in none of the splits (train, val)' in note for note in labels.notes)


def test_lists_name_images_with_their_folders(tmp_path):
    write_masks(tmp_path, 'a', ['1', '2'])
    write_masks(tmp_path, 'b', ['1', '2'])
    list_names(tmp_path / 'splits', my_train=['a/1', 'b/2.png'], my_val=['a/2', 'b/1'])
    labels = prepare_masks(tmp_path)
    found = {
        split: [pair.image.parent.name + pair.image.stem for pair in pairs] for split, pairs in labels.splits.items()
    }
    assert found == {'train': ['a1', 'b2'], 'val': ['a2', 'b1']}


def test_objects_of_images_in_no_split_are_no_classes(tmp_path):
    pytest.importorskip('supervision', reason='reads YOLO: pip install -e .[labels]')
    write_yolo(tmp_path, 'extra', ['x'])
    text(tmp_path / 'labels' / 'extra' / 'x.txt', '7 0.5 0.5 0.5 0.5\n')
    labels = prepare('YOLO', tmp_path, train=4, val=2)
    assert labels.classes == ['class 0'] and len(labels.images) == 6


def test_values_of_masks_in_no_split_are_no_classes(tmp_path):
    write_masks(tmp_path, 'extra', ['x'])
    save(tmp_path / 'masks' / 'extra' / 'x.png', [0, 1, 9])
    assert prepare('masks', tmp_path, train=4, val=2).values == [0, 1]


def test_a_table_without_a_split_in_some_rows_loses_no_row_of_training(tmp_path):
    write_table(tmp_path, '', ['x0', 'x1', 'x2'])
    labels = prepare('CSV', tmp_path, train=40)
    names = names_of(labels)
    assert sorted(name for part in names.values() for name in part) == sorted(f'train{i}' for i in range(40))
    assert any('3 of the 43 labeled images' in note for note in labels.notes)
    assert any('val and test split off training at random' in note for note in labels.notes)


@pytest.mark.parametrize(
    ('header', 'row'),
    [
        ('id,filename,label', '7,{name},{label}'),
        ('label,photo', '{label},{name}'),
        ('photo,split,class', '{name},,{label}'),
        ('category,id,image_id', '{label},7,{name}'),
    ],
)
def test_the_columns_of_a_table_are_found_by_their_names(tmp_path, header, row):
    for i in range(6):
        save(tmp_path / f'{i}.png')
    rows = [row.format(name=f'{i}.png', label='ab'[i % 2]) for i in range(6)]
    table = text(tmp_path / 'labels.csv', '\n'.join([header, *rows]))
    labels = prepare_classes(table)
    assert sorted(path.stem for part in labels.splits.values() for path, _ in part) == list('012345')
    assert labels.classes == ['a', 'b']
    text(table, '\n'.join([header, *rows, '6.png']))
    with pytest.raises(UserError, match='no table'):
        prepare_classes(table)


def test_a_class_may_be_called_train(tmp_path):
    for name in ('train', 'car'):
        for i in range(4):
            save(tmp_path / name / f'{i}.png')
    assert prepare_classes(tmp_path).classes == ['car', 'train']
