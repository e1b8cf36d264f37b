"""What an export begins with: a run's folder or a checkpoint, and the config of its training."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mmengine.config import Config

from mae_toolkit.checkpoints.files import load
from mae_toolkit.checkpoints.run_folder import find_run
from mae_toolkit.checkpoints.sharded import is_sharded
from mae_toolkit.config.load import load_config
from mae_toolkit.config.text import read_config_text
from mae_toolkit.errors import UserError


@dataclass(frozen=True)
class TrainedEncoder:
    """A checkpoint with an encoder, and the config of its training.

    Attributes:
        checkpoint: The file.
        cfg: The config; None if nobody has given one and the file holds none.
        folder: The folder of the run, if there is one.
        epoch: Epochs after which the checkpoint was written, if it says so.
        iteration: Steps after which it was written, if it says so.
    """

    checkpoint: Path
    cfg: Config | None
    folder: Path | None = None
    epoch: int | None = None
    iteration: int | None = None


def find_trained(source: str | Path, cfg: Config | None = None) -> TrainedEncoder:
    """Find the checkpoint and the config of a trained encoder.

    Args:
        source: Folder of a run, or a checkpoint.
        cfg: Config of the training; by default that in the folder, or the one that the checkpoint holds.

    Raises:
        UserError: If there is no such folder or file, or the config has no encoder.
    """
    found = read_trained(source, cfg)
    if found.cfg is not None and 'encoder' not in found.cfg.model:
        raise UserError(
            f'The config, of a {found.cfg.model.get("type")}, has no model.encoder: give --config that of the '
            'pretraining.'
        )
    return found


def read_trained(source: str | Path, cfg: Config | None = None) -> TrainedEncoder:
    """Read a checkpoint and the config of its training, of whatever model; see :func:`find_trained`."""
    folder = None
    if Path(source).is_dir() and not is_sharded(source):
        run = find_run(source)
        source, folder = run.checkpoint, run.folder
        cfg = load_config(run.config) if cfg is None else cfg
    checkpoint = load(source, verify=False)
    meta = checkpoint.get('meta')
    meta = meta if isinstance(meta, dict) else {}
    if cfg is None and isinstance(saved := read_config_text(meta.get('cfg')), dict) and 'model' in saved:
        cfg = Config(saved)
    return TrainedEncoder(Path(source), cfg, folder, _count(meta, 'epoch'), _count(meta, 'iter'))


def require_config(found: TrainedEncoder) -> Config:
    """Return the config of a trained encoder.

    Raises:
        UserError: If there is none.
    """
    if found.cfg is None:
        raise UserError(
            f'{found.checkpoint} does not hold the config of its training, which says what its encoder is: give '
            '--config that of the pretraining, or the folder of the run.'
        )
    return found.cfg


def _count(meta: dict[str, Any], key: str) -> int | None:
    value = meta.get(key)
    return value if type(value) is int else None
