"""mae-toolkit finetune: from labels to a tested model, on the images that come with the package."""

import json
from pathlib import Path

import pytest

from mae_toolkit import commands
from mae_toolkit.apis import load_config
from mae_toolkit.checkpoints.run_folder import find_run

ROOT = Path(__file__).resolve().parents[1]
TINY = ROOT / 'mae_toolkit' / 'data' / 'tiny'
SMALL = ['--steps', '4', '--size', '64', '--cfg-options', 'validations=2', 'workers=0', 'width=16', 'proposals=60']


def finetune(*arguments):
    """Run the command in this process."""
    commands.main(['finetune', *map(str, arguments)])


@pytest.mark.slow
def test_a_detector_is_trained_tested_and_drawn(tmp_path, capfd):
    pytest.importorskip('mmdet', reason='MMDetection is not installed: pip install -e .[det]')
    run = tmp_path / 'run'
    finetune('detect', TINY / 'bccd' / 'annotations' / 'train.json', '--out', run, *SMALL, 'batch_size=2')
    text = (run / 'config.py').read_text()
    assert 'size = 64  # pixels of the longer side, given' in text and 'steps = 4' in text
    cfg = load_config(run / 'config.py')
    assert cfg.model.type == 'FasterRCNN' and cfg.model.roi_head.bbox_head.num_classes == 3
    assert len(json.loads((run / 'labels' / 'train.json').read_text())['images']) == 64
    assert find_run(run).config == run / 'config.py' and find_run(run).checkpoint.name.startswith('best_')
    assert len(list((run / 'pictures').glob('*.png'))) == 12 and (run / 'loss.png').is_file()
    said = capfd.readouterr().err
    assert 'COCO: 64 train, 16 val images' in said and 'coco/bbox_mAP' in said.splitlines()[-2]
