"""One table of the measures of several detectors of anomalies."""

import json

import pytest

from mae_toolkit.apis.anomaly_table import format_anomaly_table
from mae_toolkit.errors import UserError
from tiny import run_here

IMAGES = [
    {'image': 'test/good/0.png', 'kind': 'good'},
    {'image': 'test/cut/0.png', 'kind': 'cut'},
]


def write_evaluation(path, auroc, images=IMAGES, **others):
    """An evaluation of one category, or of one and the mean with another."""
    scores = {'auroc': auroc, 'f1_max': 0.9, 'f1': 0.8}
    own = {'normal': 1, 'defective': 1, 'max': scores, 'top': scores, 'pixel_auroc': 0.5} | others
    path.write_text(json.dumps({'measured': {'bottle': own}, 'thresholds': {}, 'images': images}))
    return path


def test_a_row_for_each_detector(tmp_path):
    first = write_evaluation(tmp_path / 'patchcore.json', 0.97651, **{'aupro_0.3': None, 'aupro_0.05': 0.25})
    moved = [one | {'image': f'/moved/{one["image"]}'} for one in IMAGES]
    second = write_evaluation(tmp_path / 'padim.json', 0.5, moved)
    said = run_here('anomaly', 'table', first, second, plain=True)
    assert '| patchcore | 97.7 | 97.7 | 80.0 | 90.0 | 50.0 | - | 25.0 |' in said
    assert '| padim | 50.0 | 50.0 | 80.0 | 90.0 | 50.0 | - | - |' in said
    assert '1 normal and 1 defective images; percent.' in said


def test_several_categories_are_their_mean(tmp_path):
    path = write_evaluation(tmp_path / 'one.json', 0.2)
    found = json.loads(path.read_text())
    found['measured']['mean'] = found['measured']['bottle'] | {'pixel_auroc': 0.75, 'normal': 7}
    path.write_text(json.dumps(found))
    said = format_anomaly_table([path])
    assert '| 75.0 |' in said and '7 normal' in said


@pytest.mark.parametrize(
    ('content', 'said'),
    [
        (None, 'other.json cannot be read'),
        ('{"measured"', 'other.json holds no measures'),
        ('[]', 'other.json holds no measures'),
        ('{"measured": {}}', 'other.json holds no measures'),
    ],
)
def test_files_that_are_no_evaluation(tmp_path, content, said):
    path = tmp_path / 'other.json'
    if content is not None:
        path.write_text(content)
    with pytest.raises(UserError, match=said):
        format_anomaly_table([path])


def test_detectors_are_compared_on_the_same_images(tmp_path):
    first = write_evaluation(tmp_path / 'one.json', 0.2)
    second = write_evaluation(tmp_path / 'two.json', 0.2, IMAGES[:1])
    with pytest.raises(UserError, match='two.json measured 1 image, and .*one.json 2 images, which are not the same'):
        format_anomaly_table([first, second])
    with pytest.raises(UserError, match='No evaluation is named'):
        format_anomaly_table([])
