"""The quickstart made so small that a run takes seconds, and the tools run on it."""

import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
QUICKSTART = ROOT / 'configs' / 'pretrain' / 'quickstart.py'

OPTIONS = {
    'model.encoder.img_size': 32,
    'model.encoder.embed_dim': 24,
    'model.encoder.depth': 1,
    'model.encoder.num_heads': 2,
    'model.decoder.embed_dim': 16,
    'model.decoder.depth': 1,
    'model.decoder.num_heads': 2,
    'train_dataloader.batch_size': 8,
    'train_dataloader.num_workers': 0,
    'train_dataloader.persistent_workers': False,
    'train_dataloader.dataset.repeat': 1,
    'train_dataloader.dataset.pipeline.0.size': 32,
    'val_dataloader.dataset.pipeline.0.size': 32,
    'val_dataloader.dataset.pipeline.1.size': 32,
    'train_cfg.max_epochs': 2,
    'train_cfg.val_interval': 1,
    'param_scheduler.0.end': 1,
    'param_scheduler.1.begin': 1,
    'default_hooks.checkpoint.interval': 1,
    'default_hooks.reconstruction.interval': 1,
    'default_hooks.reconstruction.indices': (0, 1),
    'default_hooks.logger.interval': 1,
    'env_cfg.num_threads': 1,
}


def options(**changes):
    """The options as --cfg-options; keys of ``changes`` have ``__`` for dots."""
    merged = OPTIONS | {key.replace('__', '.'): value for key, value in changes.items()}
    return ['--cfg-options', *(f'{key}={value}' for key, value in merged.items())]


def command(tool, *arguments, **changes):
    """Command line of a tool on the small quickstart."""
    return [sys.executable, str(ROOT / 'tools' / f'{tool}.py'), *map(str, arguments), *options(**changes)]


def run(tool, *arguments, status=0, plain=False, **changes):
    """Run a tool, ``plain`` without the options above; return what it printed, after checking its exit status."""
    full = command(tool, *arguments, **changes)
    full = full[: 2 + len(arguments)] if plain else full
    done = subprocess.run(full, capture_output=True, text=True, cwd=ROOT, check=False)
    assert done.returncode == status, f'{done.stdout}\n{done.stderr}'
    return done.stdout + done.stderr


def refuse(tool, *arguments, **changes):
    """Run a tool that must refuse; return its one sentence."""
    text = run(tool, *arguments, status=2, **changes)
    assert 'Traceback' not in text, text
    lines = [line for line in text.splitlines() if line.startswith('error: ')]
    assert len(lines) == 1, text
    return lines[0]
