"""What the tests of the launchers share."""

from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
CONFIG = ROOT / 'configs' / 'pretrain' / 'quickstart.py'
# Options that make of the quickstart 3 epochs over its 96 images in batches of 4 per process.
SMALL = [
    'train_cfg.max_epochs=3',
    'train_dataloader.batch_size=4',
    'train_dataloader.num_workers=0',
    'train_dataloader.persistent_workers=False',
    'train_dataloader.dataset.repeat=1',
]


def stand_in(folder, text):
    """A program to run in the place of Python: -u tools/train.py CONFIG --work-dir WORK_DIR ..."""
    path = folder / 'stand-in'
    path.write_text(f'#!/usr/bin/env bash\n{text}\n')
    path.chmod(0o755)
    return str(path)
