"""Predictions on users' images, for the three tasks: small models of random weights, made images."""

import json
import logging
import math
import runpy
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from mmengine.config import Config
from mmengine.registry import DefaultScope
from PIL import Image

from launching import ROOT
from mae_toolkit import apis
from mae_toolkit.apis import load_config, load_predictor, predict_images
from mae_toolkit.apis import training as api
from mae_toolkit.config import difference as config_difference
from mae_toolkit.datasets import BrokenImageError, LabeledDataset, read_image
from mae_toolkit.datasets.any_image import as_image_file
from mae_toolkit.datasets.image_files import find_images
from mae_toolkit.downstream.task_predictors import Detector
from mae_toolkit.errors import UserError
from mae_toolkit.registry import MODELS
from mae_toolkit.visualization import Objects, draw_classes, draw_labels, draw_objects
from mae_toolkit.visualization.predictions import choose_colors

pytestmark = pytest.mark.filterwarnings('ignore:.*(DetLocalVisualizer|faster_coco_eval|avg_non_ignore|BaseSegDataset)')
VIT = {'type': 'ViT', 'patch_size': 8, 'embed_dim': 24, 'depth': 1, 'num_heads': 3, 'img_size': 16}
TASKS = ('detection', 'masks', 'segmentation', 'classification')
NAMES = {'detection': ['RBC', 'WBC', 'Platelets'], 'masks': ['nucleus'], 'segmentation': ['background', 'sky', 'sea']}
NAMES['classification'] = ['cat', 'dog', 'owl']
CLASSIFIER = f"""
default_scope = 'mae_toolkit'
model = dict(
    type='Classifier', encoder=dict({VIT}), num_classes=3, data_preprocessor=dict(type='ClassificationPreprocessor')
)
images = dict(
    type='LabeledDataset', data_root='nowhere', classes='train',
    pipeline=[dict(type='Resize', size=16), dict(type='CenterCrop', size=16)],
)
train_dataloader = dict(batch_size=1, dataset=images)
val_dataloader = test_dataloader = dict(
    batch_size=2, num_workers=0, dataset=images, collate_fn=dict(type='mae_toolkit.image_collate'),
    sampler=dict(type='EpochSampler', shuffle=False, round_up=False),
)
val_evaluator = test_evaluator = dict(type='Accuracy')
val_cfg, test_cfg = dict(type='ValLoop'), dict(type='TestLoop')
train_cfg = dict(type='EpochTrainLoop', max_epochs=1)
optim_wrapper = dict(optimizer=dict(type='SGD', lr=0.1))
"""
SEGMENTER = """
default_scope = 'mmseg'
model = dict(
    type='EncoderDecoder',
    data_preprocessor=dict(
        type='SegDataPreProcessor', mean=[99.0, 120.0, 130.0], std=[50.0] * 3, bgr_to_rgb=True, size_divisor=8
    ),
    backbone=dict(type='mae_toolkit.SparseCNN', arch='resnet10t', out_indices=(1,)),
    decode_head=dict(type='FCNHead', in_channels=64, channels=8, num_classes=3, num_convs=1),
    train_cfg=dict(),
    test_cfg=dict(mode='whole'),
)
images = dict(
    type='BaseSegDataset', data_root='nowhere', data_prefix=dict(img_path='images', seg_map_path='labels'),
    img_suffix='.png', metainfo=dict(classes=('background', 'sky', 'sea')),
    pipeline=[
        dict(type='LoadImageFromFile'),
        dict(type='Resize', scale=(64, 48), keep_ratio=True),
        dict(type='LoadAnnotations'),
        dict(type='PackSegInputs'),
    ],
)
train_dataloader = dict(batch_size=1, dataset=images)
test_dataloader = dict(batch_size=2, num_workers=0, dataset=images, sampler=dict(type='DefaultSampler', shuffle=False))
test_evaluator = dict(type='IoUMetric', iou_metrics=['mIoU'])
test_cfg = dict(type='TestLoop')
train_cfg = dict(type='IterBasedTrainLoop', max_iters=1)
optim_wrapper = dict(optimizer=dict(type='SGD', lr=0.1))
"""


def detector(name, options):
    """A config of the repository for small images, whose data are not there."""
    small = "test_dataloader = dict(dataset=dict(data_root='nowhere/'))"
    return f"_base_ = '{ROOT}/configs/detection/{name}.py'\nmodel = dict({options})\n{small}\n"


def skip_without(task):
    package = {'segmentation': 'mmseg', 'classification': 'mae_toolkit'}.get(task, 'mmdet')
    pytest.importorskip(package, reason=f'{package} is not installed')


class Trained:
    """A config and a checkpoint of each task, made once."""

    def __init__(self, folder):
        few = 'test_cfg=dict(max_per_img=20)'
        boxes = 'test_cfg=dict(rpn=dict(nms_pre=50, max_per_img=30), rcnn=dict(max_per_img=20))'
        self.folder = folder
        self.texts = {
            'detection': detector('retinanet_convnextv2-a_500s_bccd', few),
            'masks': detector('mask-rcnn_convnextv2-a_500s_dsb2018', boxes),
            'segmentation': SEGMENTER,
            'classification': CLASSIFIER,
        }

    def paths(self, task):
        """Config and checkpoint."""
        skip_without(task)
        config, checkpoint = self.folder / f'{task}.py', self.folder / f'{task}.pth'
        if not checkpoint.exists():
            config.write_text(self.texts[task])
            cfg = load_config(config)
            torch.manual_seed(1)
            with DefaultScope.overwrite_default_scope(cfg.default_scope):
                from mmengine.registry import MODELS as ANY

                state = ANY.build(cfg.model).state_dict()
            torch.save({'state_dict': state, 'meta': {'dataset_meta': {'classes': NAMES[task]}}}, checkpoint)
        return config, checkpoint

    def predictor(self, task, **options):
        config, checkpoint = self.paths(task)
        return load_predictor(load_config(config), str(checkpoint), **options)


@pytest.fixture(scope='module')
def trained(tmp_path_factory):
    return Trained(tmp_path_factory.mktemp('trained'))


@pytest.fixture
def photos(tmp_path):
    """Images of several kinds and sizes; one in a subfolder, with the name of another."""
    folder = tmp_path / 'photos'
    (folder / 'more').mkdir(parents=True)
    colors = np.random.default_rng(0).integers(0, 255, (3, 6, 8, 3), np.uint8).repeat(6, 1).repeat(8, 2)  # 36 x 64
    Image.fromarray(colors[0]).save(folder / 'a.png')
    Image.fromarray(colors[1][:, :50]).save(folder / 'more' / 'a.jpg')
    Image.fromarray(colors[2][..., 0]).save(folder / 'gray.png')
    Image.fromarray(colors[2][..., 0].astype(np.uint16) * 256 + 7).save(folder / 'gray16.png')
    Image.fromarray(colors[1]).quantize(16).save(folder / 'palette.png')
    return folder


def equal(a, b):
    parts = zip(a, b, strict=True) if isinstance(a, tuple) else [(a, b)]
    return all((x is None and y is None) or np.array_equal(x, y) for x, y in parts)


@pytest.mark.parametrize('task', TASKS)
def test_files_of_all_kinds_are_predicted_on_and_arrays_give_the_same(trained, photos, tmp_path, task):
    predictor = trained.predictor(task)
    images = find_images([photos])
    record = predict_images(predictor, images, tmp_path / 'out')
    assert record == json.loads((tmp_path / 'out' / 'predictions.json').read_text())
    assert record['classes'] == NAMES[task] and not record['skipped']
    assert [one['image'] for one in record['images']] == [str(path) for path in images]
    pictures = [one['picture'] for one in record['images']]
    assert pictures[0] == '000_a.png' and pictures[4:] == ['004_palette.png'] and '003_a.png' in pictures
    for path, one in zip(images, record['images'], strict=True):
        assert Image.open(tmp_path / 'out' / one['picture']).size[0] >= 512  # enlarged
        image = read_image(path)
        assert (one['height'], one['width']) == image.shape[:2]
    result = predictor(read_image(images[0]))
    assert record['images'][0].items() >= predictor.to_dict(result).items()
    assert equal(result, predictor(images[0]))
    _, gray, gray16, *_ = ({name: one[name] for name in predictor.to_dict(result)} for one in record['images'])
    assert (gray == gray16) == (task != 'classification')  # whose numbers are those of the files


@pytest.mark.parametrize('task', ['detection', 'masks'])
def test_objects_are_those_that_mmdetection_finds(trained, photos, task):
    from mmdet.apis import inference_detector, init_detector

    config, checkpoint = trained.paths(task)
    model = init_detector(Config.fromfile(config), str(checkpoint), palette='random', device='cpu')
    theirs = inference_detector(model, str(photos / 'a.png')).pred_instances
    predictor = trained.predictor(task, score=0.3)
    result = predictor(photos / 'a.png')
    found = predictor.to_dict(result)['objects']
    assert len(found) == int((theirs.scores >= 0.3).sum()) > 0
    scores, order = theirs.scores.sort(descending=True, stable=True)
    for i, one in enumerate(found):
        assert one['score'] == pytest.approx(float(scores[i]), abs=1e-6)
        assert one['box'] == pytest.approx(theirs.bboxes[order[i]].tolist(), abs=0.006)
        assert one['class'] == NAMES[task][theirs.labels[order[i]]]
        if task == 'masks':
            from pycocotools import mask

            assert np.array_equal(mask.decode(one['mask']), theirs.masks[order[i]].numpy())
    highest = float(scores[0])
    assert len(trained.predictor(task, score=highest)(photos / 'a.png').scores) < len(found)
    assert not trained.predictor(task, score=1.0)(photos / 'a.png').scores.size


def test_labels_are_those_that_mmsegmentation_gives(trained, photos, tmp_path):
    config, checkpoint = trained.paths('segmentation')
    from mmseg.apis import inference_model, init_model

    cfg = Config.fromfile(config)
    cfg.test_pipeline = cfg.test_dataloader.dataset.pipeline
    theirs = inference_model(init_model(cfg, str(checkpoint), 'cpu'), str(photos / 'a.png')).pred_sem_seg.data[0]
    predictor = trained.predictor('segmentation')
    (one,) = predict_images(predictor, [photos / 'a.png'], tmp_path / 'out')['images']
    labels = Image.open(tmp_path / 'out' / one['labels'])
    assert labels.mode == 'P' and np.array_equal(np.asarray(labels), theirs)
    assert tuple(labels.getpalette()[3:6]) == predictor.colors[1] != (0, 0, 0) == predictor.colors[0]
    counts = np.bincount(theirs.numpy().ravel(), minlength=3) / theirs.numel()
    there = {name: share for name, share in zip(NAMES['segmentation'], counts, strict=True) if share}
    assert one['shares'] == pytest.approx(there, abs=1e-6) and len(there) > 1
    assert list(one['shares'].values()) == sorted(one['shares'].values(), reverse=True)


def test_labels_of_many_classes_have_16_bits(trained):
    predictor = trained.predictor('segmentation')
    predictor.classes = [str(i) for i in range(300)]
    (labels,) = predictor.maps(np.array([[0, 299]])).values()
    assert np.asarray(labels).tolist() == [[0, 299]]


def test_probabilities_are_those_of_the_dataset_that_is_tested_on(trained, photos):
    predictor = trained.predictor('classification', top=2)
    folder = photos.parent / 'folders'
    (folder / 'cat').mkdir(parents=True)
    (folder / 'dog').mkdir()
    pipeline = load_config(trained.paths('classification')[0]).test_dataloader.dataset.pipeline
    large = np.random.default_rng(1).integers(0, 255, (200, 300, 3), np.uint8)
    Image.fromarray(large).save(folder / 'cat' / 'large.jpg')  # decoded at a fraction of its size
    item = LabeledDataset(str(folder), pipeline, classes=['cat', 'dog'])[0]
    batch = predictor.model.data_preprocessor({'imgs': item['img'][None]})
    theirs = predictor.model(**batch, mode='predict')[0].tolist()
    found = predictor.to_dict(predictor(folder / item['name']))['classes']
    best = sorted(range(3), key=lambda i: -theirs[i])[:2]
    assert [one['class'] for one in found] == [NAMES['classification'][i] for i in best]
    assert [one['probability'] for one in found] == pytest.approx([theirs[i] for i in best], abs=1e-5)


def tool(monkeypatch, capsys, name, *arguments):
    """Run a tool in this process: (exit status, what it printed)."""
    monkeypatch.setattr(sys, 'argv', [name, *map(str, arguments)])
    try:
        runpy.run_path(str(ROOT / 'tools' / f'{name}.py'), run_name='__main__')
        status = 0
    except SystemExit as end:
        status = end.code
    said = capsys.readouterr()
    return status, said.out + said.err


def test_the_tool_skips_names_and_counts_what_it_cannot_read(trained, photos, monkeypatch, capsys):
    (photos / 'b.jpg').write_bytes(b'\xff\xd8\xff no image')
    out = photos.parent / 'out'
    arguments = (*trained.paths('classification'), photos, '--out', out, '--top', 1, '--show', 100)
    status, said = tool(monkeypatch, capsys, 'predict', *arguments)
    assert status == 0 and f'skipped {photos / "b.jpg"}: ' in said and 'wrote 5 pictures' in said
    record = json.loads((out / 'predictions.json').read_text())
    assert [one['image'] for one in record['skipped']] == [str(photos / 'b.jpg')]
    assert {len(one['classes']) for one in record['images']} == {1}
    assert Image.open(out / '000_a.png').size[1] < 100  # 56 rows of the picture, and a line
    status, said = tool(monkeypatch, capsys, 'predict', *arguments[:2], photos / 'b.jpg', '--out', photos.parent / 'no')
    assert status == 2 and 'The only image could not be read' in said and not (photos.parent / 'no').exists()


@pytest.mark.parametrize('task', ['segmentation', 'classification'])
def test_an_image_that_the_model_cannot_take_is_skipped(trained, photos, task):
    np.save(photos / 'nan.npy', np.full((20, 30, 3), np.nan, np.float32))
    Image.fromarray(np.zeros((1, 3000, 3), np.uint8)).save(photos / 'thin.png')
    images = [photos / name for name in ('a.png', 'nan.npy', 'thin.png')]
    record = predict_images(trained.predictor(task), images, photos.parent / 'out')
    skipped = {Path(one['image']).name: one['reason'] for one in record['skipped']}
    assert 'not finite' in skipped['nan.npy'] and len(record['images']) + len(skipped) == 3
    if task == 'segmentation':
        assert '1 x 3000 pixels cannot pass the pipeline' in skipped['thin.png']


def test_images_are_not_written_over(trained, photos):
    with pytest.raises(UserError, match=r'holds 2 of the 3 images, such as .*a.png: write elsewhere'):
        predict_images(
            trained.predictor('classification'), [photos / p for p in ('a.png', 'gray.png', 'more/a.jpg')], photos
        )


@pytest.mark.parametrize(
    ('arguments', 'sentence'),
    [
        (['nothing.png', '--out', 'out'], 'no image or folder nothing.png'),
        (['no*.png', '--out', 'out'], r'no image or folder no*.png'),
        (['PHOTO', '--out', 'out', '--score', '0.5'], 'score is an option of detection, and this is classification'),
        (['PHOTO', '--out', 'out', '--score', '1.5'], '1.5 is not a number from 0 to 1'),
        (['PHOTO', '--out', 'out', '--device', 'nowhere'], 'nowhere cannot be used here'),
        (['PHOTO', '--out', 'out', '--device', 'meta'], 'meta cannot be used here'),
    ],
)
def test_mistakes_in_arguments_are_told(trained, photos, monkeypatch, capsys, arguments, sentence):
    arguments = [str(photos / 'a.png') if one == 'PHOTO' else one for one in arguments]
    status, said = tool(monkeypatch, capsys, 'predict', *trained.paths('classification'), *arguments)
    assert status == 2 and sentence in said and 'Traceback' not in said


def test_a_config_that_pretrains_is_sent_to_the_other_tool(trained):
    config = ROOT / 'configs' / 'pretrain' / 'quickstart.py'
    with pytest.raises(UserError, match='no head.*mae-toolkit finetune .* --from RUN.*tools/reconstruct.py'):
        load_predictor(load_config(config), 'epoch_1.pth')


def test_another_scope_is_told(trained):
    cfg = load_config(trained.paths('classification')[0])
    with pytest.raises(UserError, match="default_scope='mmpose' and the model 'Classifier'"):
        load_predictor(Config({**cfg, 'default_scope': 'mmpose'}), 'epoch_1.pth')


@pytest.mark.parametrize(('task', 'other'), [('detection', 'masks'), ('segmentation', 'classification')])
def test_a_checkpoint_of_another_model_is_told(trained, task, other):
    cfg, checkpoint = load_config(trained.paths(task)[0]), trained.paths(other)[1]
    with pytest.raises(UserError, match=r'does not fit the model: .* is it of this config'):
        load_predictor(load_config(cfg.filename), str(checkpoint))


@pytest.mark.parametrize('task', ['segmentation', 'classification'])
def test_a_checkpoint_of_other_classes_is_told(trained, tmp_path, task):
    config, checkpoint = trained.paths(task)
    saved = torch.load(checkpoint, weights_only=True)
    torch.save({**saved, 'meta': {'dataset_meta': {'classes': ['x', 'y', 'z']}}}, tmp_path / 'other.pth')
    cfg = load_config(config)
    cfg.test_dataloader.dataset |= {'classes': NAMES[task]} if task == 'classification' else {}
    with pytest.raises(UserError, match=r'3 classes \(x, y, z\), and the config has 3 \(\w+, \w+, \w+\)'):
        load_predictor(cfg, str(tmp_path / 'other.pth'))


def test_classes_without_names_are_numbers_and_too_few_names_are_told(trained, tmp_path):
    config, checkpoint = trained.paths('classification')
    state = torch.load(checkpoint, weights_only=True)['state_dict']
    torch.save(state, tmp_path / 'weights.pth')
    assert load_predictor(load_config(config), str(tmp_path / 'weights.pth')).classes == ['0', '1', '2']
    cfg = load_config(config)
    cfg.test_dataloader.dataset.classes = ['cat', 'dog']
    with pytest.raises(UserError, match='names 2 classes, but the model has num_classes=3'):
        load_predictor(cfg, str(tmp_path / 'weights.pth'))


def test_a_class_without_a_name_is_told(trained, photos):
    predictor = trained.predictor('segmentation')
    predictor.classes = ['background']
    with pytest.raises(UserError, match=r'predicts class \d, but 1 classes have names'):
        predictor(photos / 'a.png')


def test_weights_that_are_not_finite_are_told(trained, photos):
    predictor = trained.predictor('classification')
    torch.nn.init.constant_(predictor.model.head.linear.weight, math.nan)
    with pytest.raises(BrokenImageError, match='a.png: its probabilities are not finite'):
        predictor(photos / 'a.png')


def test_a_pipeline_that_reads_files_in_another_way_is_told(trained):
    config, checkpoint = trained.paths('segmentation')
    cfg = load_config(config)
    cfg.test_dataloader.dataset.pipeline[0].color_type = 'grayscale'
    with pytest.raises(UserError, match='begins with .*grayscale'):
        load_predictor(cfg, str(checkpoint))


@pytest.mark.parametrize('image', [np.zeros((4, 5), np.int64), np.zeros((1, 2, 4, 5), np.uint8)])
def test_arrays_that_are_no_images_are_told(image):
    with pytest.raises(UserError, match='An image is an array'):
        as_image_file(image)


def test_the_first_of_several_datasets_says_how_images_are_prepared(trained):
    config, checkpoint = trained.paths('segmentation')
    cfg = load_config(config)
    cfg.test_dataloader.dataset = {'type': 'ConcatDataset', 'datasets': [cfg.test_dataloader.dataset]}
    cfg.val_dataloader, cfg.test_dataloader = cfg.test_dataloader, None
    assert load_predictor(cfg, str(checkpoint)).classes == NAMES['segmentation']
    cfg.val_dataloader = None
    with pytest.raises(UserError, match='neither test_dataloader nor val_dataloader'):
        load_predictor(cfg, str(checkpoint))


def test_a_dataset_with_a_color_per_class_gives_the_colors(trained):
    config, checkpoint = trained.paths('segmentation')
    cfg = load_config(config)
    cfg.test_dataloader.dataset.metainfo.palette = [[1, 2, 3], [4, 5, 6], [7, 8, 9]]
    assert load_predictor(cfg, str(checkpoint)).colors == [(1, 2, 3), (4, 5, 6), (7, 8, 9)]


def test_images_are_found_once_each(photos):
    found = find_images([photos / 'more', photos / 'a.png', f'{photos}/**/a.*'])
    assert found == [photos / 'more' / 'a.jpg', photos / 'a.png']
    (photos / '[1].png').write_bytes(b'')
    assert find_images([photos / '[1].png']) == [photos / '[1].png']


def test_colors_are_distinct():
    colors = np.array(choose_colors(150))
    distances = np.abs(colors[:, None] - colors).max(-1) + 999 * np.eye(150)
    assert distances.min() >= 17
    assert np.abs(np.array(choose_colors(10))[:, None] - np.array(choose_colors(10))).sum(-1)[0, 1:].min() > 150
    assert len(choose_colors(3000)) == 3000


GRAY = np.full((100, 200, 3), 128, np.uint8)


def objects(boxes, masks=None):
    count = len(boxes)
    boxes = np.array(boxes, np.float32).reshape(count, 4)
    return Objects(boxes, np.linspace(0.9, 0.5, count, dtype=np.float32), np.arange(count) % 2, masks)


def test_boxes_are_where_they_were_found_and_names_do_not_overlap():
    colors = [(255, 0, 0), (0, 0, 255)]
    found = objects([[50, 30, 150, 90], [52, 32, 148, 88]])
    picture = np.asarray(draw_objects(GRAY, found, ['a', 'b'], colors, side=400))
    assert picture.shape[1] == 400 and picture.shape[0] > 200  # twice as large, and a legend
    assert tuple(picture[120, 100]) == tuple(picture[180, 200]) == colors[0]  # left and lower border
    assert tuple(picture[120, 104]) == colors[1]
    assert (picture[120, 110:290] == 128).all()
    legend = picture[200:]
    assert [(legend == color).all(-1).sum() > 50 for color in (*colors, (0, 255, 0))] == [True, True, False]
    twice = np.asarray(draw_objects(GRAY, objects([[50, 30, 150, 90]] * 2), ['a', 'b'], colors, side=400))
    above, within = twice[44:58, 102:130], twice[64:74, 102:130]  # the surer first
    for place, there, other in ((above, *colors), (within, *colors[::-1])):
        assert (place == there).all(-1).sum() > 50 and not (place == other).all(-1).any()


def test_in_a_crowd_only_what_is_wide_enough_is_named():
    picture, red = np.full((200, 200, 3), 128, np.uint8), [(255, 0, 0)] * 2
    crowd = [[6 * i, 50, 6 * i + 5, 55] for i in range(31)]
    for boxes, named in ((crowd, False), (crowd[:30], True), ([*crowd, [20, 100, 180, 150]], True)):
        drawn = np.asarray(draw_objects(picture, objects(boxes), ['a', 'b'], red, side=600))[:600, :600]
        assert (drawn == 255).all(-1).any() == named  # white letters


def test_nothing_found_is_said():
    picture = np.asarray(draw_objects(GRAY, objects([]), ['a', 'b'], [(255, 0, 0), (0, 0, 255)], side=200))
    assert (picture[:100, 60:-60] == 128).all() and (picture[100:] < 50).any()


def test_masks_tint_what_they_cover():
    mask = np.zeros((1, 100, 200), bool)
    mask[0, 40:80, 60:120] = True
    found = objects([[60, 40, 120, 80]], mask)
    picture = np.asarray(draw_objects(GRAY, found, ['a'], [(255, 0, 0)], side=400))[:200, :400].astype(int)
    inside = picture[100:150, 140:220]
    assert (inside[..., 0] > 150).all() and (inside[..., 0] < 255).all()
    assert tuple(picture[120, 120]) == (255, 0, 0) and tuple(picture[120, 118]) == (128, 128, 128)


def test_labels_tint_all_but_black_classes():
    labels = np.zeros((100, 200), np.int64)
    labels[:, 100:] = 1
    picture = np.asarray(draw_labels(GRAY, labels, ['background', 'sea'], [(0, 0, 0), (0, 0, 255)], side=400))
    assert (picture[:200, :199] == 128).all() and (picture[10:190, 205:390, 2] > 150).all()


@pytest.mark.parametrize('shape', [(1, 1), (3, 900), (900, 3), (64, 64)])
def test_pictures_of_any_shape_can_be_drawn_on(shape):
    image = np.zeros((*shape, 3), np.uint8)
    names = ['a name that is much too long for the room that there is below a picture of this size'] * 2
    colors = choose_colors(2)
    drawn = [
        draw_classes(image, names, [0.7, 0.3]),
        draw_labels(image, np.zeros(shape, int), names, colors),
        draw_objects(image, objects([[0, 0, 1, 1]]), names, colors),
    ]
    for picture in drawn:
        assert max(picture.size) >= 512 and picture.width >= 320


def test_bars_are_as_long_as_the_probabilities():
    picture = np.asarray(draw_classes(GRAY, ['a', 'b'], [1.0, 0.25], side=600))[300:].astype(int)
    rows = [np.flatnonzero((row.max(-1) - row.min(-1)) > 30) for row in picture]
    lengths = sorted({len(row) for row in rows if len(row)})
    assert lengths[0] / lengths[-1] == pytest.approx(0.25, abs=0.02)


def test_a_notebook_may_go_from_one_task_to_another(trained, photos):
    one, two = trained.predictor('detection'), trained.predictor('classification')
    before = one(photos / 'a.png')
    two(photos / 'a.png')
    three = trained.predictor('segmentation')
    assert equal(one(photos / 'a.png'), before) and three(photos / 'a.png').shape == (36, 64)
    assert isinstance(one, Detector) and 'Classifier' in MODELS.module_dict


def test_the_test_tool_says_on_what_it_tested(trained, photos, monkeypatch, capsys):
    data = photos.parent / 'data'
    for split, count in (('train', 1), ('val', 2), ('test', 3)):
        for name in NAMES['classification']:
            (data / split / name).mkdir(parents=True)
            for i in range(count):
                (data / split / name / f'{i}.png').write_bytes((photos / 'a.png').read_bytes())
    _, checkpoint = trained.paths('classification')
    config = photos.parent / 'config.py'
    splits = [f"{split}_dataloader['dataset'] = {{**images, 'split': '{split}'}}" for split in ('val', 'test')]
    loaders = 'test_dataloader = dict(val_dataloader)\n'
    config.write_text(CLASSIFIER.replace('nowhere', str(data)) + loaders + '\n'.join(splits))
    out = photos.parent / 'numbers.json'
    arguments = (config, checkpoint, '--work-dir', photos.parent / 'run', '--out', out)
    for options, line in (((), 'test: 9 images of'), (('--split', 'val'), 'val: 6 images of')):
        status, said = tool(monkeypatch, capsys, 'test', *arguments, *options)
        assert status == 0 and f'{line} {data}' in said, said
        assert set(json.loads(out.read_text())) == {'accuracy/top1'}


def test_segmentation_is_tested_with_a_line_per_class(trained, tmp_path, capsys):
    config, checkpoint = trained.paths('segmentation')
    for folder in ('images', 'labels'):
        (tmp_path / folder).mkdir()
    for i in range(2):
        Image.fromarray(np.full((40, 50, 3), 60 * i, np.uint8)).save(tmp_path / 'images' / f'{i}.png')
        Image.fromarray(np.full((40, 50), i, np.uint8)).save(tmp_path / 'labels' / f'{i}.png')
    cfg = load_config(config)
    cfg.test_dataloader.dataset.data_root = str(tmp_path)
    numbers = api.test(cfg, str(checkpoint), tmp_path / 'run')
    assert {'aAcc', 'mIoU', 'mAcc'} <= set(numbers)
    said = capsys.readouterr().out
    assert 'test: 2 images of' in said and str(tmp_path / 'images') in said
    assert all(f'| {name}' in ' '.join(said.split()) for name in ('background', 'sky', 'sea'))
    with pytest.raises(UserError, match='no val_dataloader: test on --split test'):
        api.test(cfg, str(checkpoint), tmp_path / 'other', split='val')


def test_what_coco_could_not_measure_is_no_number_and_null(trained, tmp_path, monkeypatch, capsys):
    assert math.isnan(api.mark_missing('coco/bbox_mAP_l', -1.0)) and math.isnan(api.mark_missing('coco/AR@100', -1))
    assert api.mark_missing('coco/bbox_mAP_l', 0.0) == 0 and api.mark_missing('correlation', -1.0) == -1
    monkeypatch.setattr(apis, 'test', lambda *_: {'coco/bbox_mAP': 0.5, 'coco/bbox_mAP_l': math.nan})
    out = tmp_path / 'numbers.json'
    status, said = tool(monkeypatch, capsys, 'test', *trained.paths('classification'), '--out', out)
    assert status == 0 and 'coco/bbox_mAP_l: none' in said
    assert json.loads(out.read_text()) == {'coco/bbox_mAP': 0.5, 'coco/bbox_mAP_l': None}


def test_only_tables_of_the_log_are_printed_and_only_during_a_test(capsys):
    logger = logging.getLogger('of a test')
    logger.setLevel(logging.INFO)
    with api.printed_tables(logger):
        logger.info('a line')
        logger.info('\n| a | table |')
        assert capsys.readouterr().out == '\n| a | table |\n'
        logger.info('\n| nanny | 0.5 |\n| dog   | nan |')
        printed = capsys.readouterr().out
    assert printed.startswith('\n| nanny | 0.5 |\n| dog   |  -  |\n-: ') and 'no example' in printed
    logger.info('\n| a | table |')
    assert not capsys.readouterr().out


@pytest.mark.parametrize('task', TASKS)
def test_the_config_of_the_training_is_not_said_to_differ(trained, tmp_path, monkeypatch, task):
    """MMDetection adds the settings of a detector to the configs of its heads while it builds them."""
    said = []
    monkeypatch.setattr(config_difference, 'print_log', lambda text, *_: said.append(text))
    config, checkpoint = trained.paths(task)
    cfg, saved = load_config(config), torch.load(checkpoint)
    saved['meta']['cfg'] = cfg.pretty_text
    torch.save(saved, tmp_path / 'a.pth')
    load_predictor(cfg, str(tmp_path / 'a.pth'))
    assert not said
