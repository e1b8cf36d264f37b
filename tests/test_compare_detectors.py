"""Detectors beside each other: the same images, the boxes that each finds, and the metrics of tools/test.py."""

import json
import math

import numpy as np
import pytest
import torch
from mmengine.registry import DefaultScope
from PIL import Image

from coco_sets import CLASSES, make_content, write_images
from mae_toolkit.apis import load_config
from mae_toolkit.apis.detector_comparison import LABELED, check_compared, compare_detectors
from mae_toolkit.errors import UserError
from mae_toolkit.visualization.compared import Boxes, draw_compared_boxes
from mae_toolkit.visualization.grid import GAP
from tiny import ROOT, refuse, run_here

pytestmark = pytest.mark.filterwarnings('ignore:.*(DetLocalVisualizer|faster_coco_eval|avg_non_ignore)')
CONFIG = """
_base_ = '{root}/configs/detection/retinanet_convnextv2-a_500s_bccd.py'
model = dict(bbox_head=dict(num_classes=2), test_cfg=dict(max_per_img=6))
test_dataloader = dict(
    num_workers=0,
    persistent_workers=False,
    dataset=dict(data_root='{data}/', ann_file='set.json', metainfo=dict(classes={classes})),
)
test_evaluator = dict(ann_file='{data}/set.json')
"""


@pytest.fixture(scope='module')
def runs(tmp_path_factory):
    """Two runs of detectors with random weights, and the set of three images on which they are tested."""
    pytest.importorskip('mmdet', reason='MMDetection is not installed')
    root = tmp_path_factory.mktemp('compared')
    content = make_content(3)
    write_images(root, content)
    (root / 'set.json').write_text(json.dumps(content))
    found = {}
    for seed, name in enumerate(('first', 'second')):
        (root / name).mkdir()
        config = root / name / 'config.py'
        config.write_text(CONFIG.format(root=ROOT, data=root, classes=CLASSES))
        cfg = load_config(config)
        torch.manual_seed(seed)
        with DefaultScope.overwrite_default_scope(cfg.default_scope):
            from mmengine.registry import MODELS

            model = MODELS.build(cfg.model)
        torch.nn.init.normal_(model.bbox_head.retina_cls.weight, std=0.3)  # so that some are sure of something
        meta = {'iter': 1, 'epoch': 0, 'dataset_meta': {'classes': CLASSES}}
        torch.save({'state_dict': model.state_dict(), 'meta': meta}, root / name / 'best_iter_1.pth')
        found[name] = root / name
    return found


@pytest.mark.slow
def test_pictures_and_metrics_of_two_runs(runs, tmp_path, monkeypatch):
    """Metrics are those of the test of each run's own checkpoint; null where the images have nothing to measure."""
    measured = {'first': {'coco/bbox_mAP': 0.25, 'coco/bbox_mAP_l': math.nan}, 'second': {'coco/bbox_mAP': 0.5}}
    monkeypatch.setattr('mae_toolkit.apis.detector_comparison.test', lambda cfg, path, logs: measured[path.parent.name])
    compared = compare_detectors(runs, images=2, score=0.02, side=100)
    names = [path.rsplit('/', 1)[-1] for path in compared.numbers['images']]
    assert names == ['1.jpg', '2.jpg']
    first, second = (compared.numbers['detectors'][name] for name in runs)
    assert (
        first['metrics'] == {'coco/bbox_mAP': 0.25, 'coco/bbox_mAP_l': None} and second['metrics'] == measured['second']
    )
    for name, found in compared.numbers['detectors'].items():
        assert found['checkpoint'].endswith(f'{name}/best_iter_1.pth')
        assert len(found['boxes']) == 2 and all(0 < count <= 6 for count in found['boxes'])
    assert compared.picture.width > 3 * 100
    out = tmp_path / 'boxes.png'
    compared.write(out)
    assert json.loads(out.with_suffix('.json').read_text()) == compared.numbers


def test_boxes_are_drawn_where_they_are():
    """A red box in the first column and a blue one in the second, at twice the size of the image."""
    picture = np.full((20, 40, 3), 128, np.uint8)
    box = np.array([[10, 5, 30, 15]], np.float32)
    columns = {name: [Boxes(box, np.array([label]))] for label, name in enumerate(('first', 'second'))}
    colors = [(255, 0, 0), (0, 0, 255)]
    drawn = np.asarray(draw_compared_boxes([picture], columns, ['a', 'b'], colors, 80))
    rows = np.flatnonzero((drawn == 128).all(-1).sum(1) > 80)  # of the pictures, without the legend
    pictures = drawn[rows[0] : rows[-1] + 1]
    assert len(pictures) == 40
    start = np.flatnonzero((pictures == 128).all(-1).any(0))[0]
    first, second = (np.argwhere((pictures == color).all(-1)) for color in colors)
    for found, left in ((first, start + 20), (second, start + 80 + GAP + 20)):
        assert tuple(found.min(0)) == (10, left) and tuple(found.max(0)) == (30, left + 40)


def test_runs_that_were_tested_on_other_images_are_refused(runs, tmp_path):
    other = tmp_path / 'other'
    other.mkdir()
    text = (runs['second'] / 'config.py').read_text().replace("ann_file='set.json'", "ann_file='more.json'")
    (other / 'config.py').write_text(text)
    (other / 'best_iter_1.pth').write_bytes((runs['second'] / 'best_iter_1.pth').read_bytes())
    with pytest.raises(UserError, match=r"'other' has the test set ann_file=more.json, and 'first' ann_file=set.json"):
        compare_detectors({'first': runs['first'], 'other': other})


@pytest.mark.slow
def test_the_tool_writes_its_own_files_alone(runs, tmp_path):
    out = tmp_path / 'boxes.png'
    arguments = [*(f'{name}={folder}' for name, folder in runs.items()), '--out', out, '--images', 1, '--score', 0.02]
    said = run_here('compare_detectors', *arguments, plain=True)
    assert 'second: coco/bbox_mAP 0.' in said and LABELED not in said and Image.open(out).height > 100
    check_compared(out)  # its own files may be replaced
    Image.new('RGB', (4, 4)).save(out)
    assert 'is there already' in refuse('compare_detectors', *arguments, plain=True)
    for name in ('boxes', 'boxes.json', 'boxes.jpg'):
        said = refuse('compare_detectors', *arguments[:2], '--out', tmp_path / name, plain=True)
        assert 'name a file ending in .png' in said
    with pytest.raises(UserError, match='No run is named'):
        compare_detectors({})
    assert 'named twice' in refuse('compare_detectors', 'a=b', 'a=c', '--out', tmp_path / 'x.png', plain=True)
