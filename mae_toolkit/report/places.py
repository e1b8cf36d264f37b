"""Where the things of a report are: the checkpoint and the folder of its run; and hashes of what they hold."""

import hashlib
from collections.abc import Sequence
from pathlib import Path

from mae_toolkit.checkpoints.run_folder import find_run, is_run
from mae_toolkit.errors import UserError
from mae_toolkit.printing import printable
from mae_toolkit.run_files import RUN


def find_checkpoint(path: str | Path) -> Path:
    """Return a checkpoint, or that in the folder of a run: the best one, or else the newest.

    Raises:
        UserError: If there is none.
    """
    path = Path(path)
    if is_run(path):
        return find_run(path).checkpoint
    if not path.exists():
        raise UserError(f'There is no checkpoint {printable(path)}: give a .pth or .safetensors file, or a run.')
    return path


def find_run_of(checkpoint: Path) -> Path | None:
    """Return the folder of a checkpoint if a training has left ``run.json`` or logs there."""
    return checkpoint.parent if _has_logs(checkpoint.parent) else None


def check_run(folder: str | Path) -> Path:
    """Return the folder of a run.

    Raises:
        UserError: If there is none, or no training has left anything there.
    """
    folder = Path(folder)
    if not _has_logs(folder):
        raise UserError(f'{printable(folder)} is not the work directory of a training: it has neither {RUN} nor logs.')
    return folder


def hash_files(paths: Sequence[Path]) -> str:
    """Return the SHA-256 of the content of a file, or of the hashes of several files in their order."""
    if len(paths) == 1:
        with open(paths[0], 'rb') as file:
            return hashlib.file_digest(file, 'sha256').hexdigest()
    total = hashlib.sha256()
    for path in paths:
        total.update(hash_files([path]).encode())
    return total.hexdigest()


def _has_logs(folder: Path) -> bool:
    return (folder / RUN).is_file() or any(folder.glob('*/vis_data/scalars.json'))
