"""Finding the config and the checkpoint in the folder of a run."""

from dataclasses import dataclass
from pathlib import Path

from mae_toolkit.checkpoints.files import list_checkpoints, newest_checkpoint
from mae_toolkit.checkpoints.links import read_link
from mae_toolkit.checkpoints.sharded import is_sharded
from mae_toolkit.errors import UserError


@dataclass(frozen=True)
class RunFolder:
    """What a training left in its folder.

    Attributes:
        folder: The folder.
        config: The config that the last training wrote there, options of the command line included.
        checkpoint: The best checkpoint (``best_*.pth``, or what the link ``best`` names) if the run kept one, else
            the newest.
    """

    folder: Path
    config: Path
    checkpoint: Path


def is_run(path: str | Path) -> bool:
    """Return whether a path is the folder of a run, finished or not."""
    path = Path(path)
    if not path.is_dir() or is_sharded(path):
        return False
    return _find_config(path) is not None or any(path.glob('*.pth')) or bool(list_checkpoints(path))


def find_run(folder: str | Path) -> RunFolder:
    """Find the config and the checkpoint in the folder of a run.

    Args:
        folder: What was ``--work-dir`` or ``--out`` of the training.

    Raises:
        UserError: If there is no such folder, or no config or undamaged checkpoint in it.
    """
    folder = Path(folder)
    if not folder.is_dir():
        raise UserError(
            f'There is no folder {folder}: give the folder of a run, which holds its config and checkpoints.'
        )
    config = _find_config(folder)
    if config is None:
        raise UserError(f'{folder} holds no config (*.py) of a run: give the folder that a training wrote.')
    linked = [target for path in folder.glob('best*') if (target := read_link(path)) is not None and target.exists()]
    best = sorted([*folder.glob('best_*.pth'), *linked], key=lambda path: path.stat().st_mtime)
    checkpoint = best[-1] if best else newest_checkpoint(folder)
    if checkpoint is None:
        raise UserError(
            f'{folder} holds no whole checkpoint (*.pth, *.dcp): the run has not saved any yet, or they are damaged.'
        )
    return RunFolder(folder, config, checkpoint)


def _find_config(folder: Path) -> Path | None:
    """Find the config that the last training wrote into its folder: its own, with the options of the command line."""
    return max(folder.glob('*.py'), key=lambda path: path.stat().st_mtime, default=None)
