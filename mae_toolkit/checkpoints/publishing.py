"""Giving a folder its name only once it is whole, and removing folders without leaving half of one."""

import json
import os
import re
import shutil
import warnings
from collections.abc import Mapping
from io import BytesIO
from pathlib import Path
from typing import Any

import torch
from torch.distributed import checkpoint as dcp

from mae_toolkit.checkpoints.dcp_metadata import INDEX, checksum
from mae_toolkit.checkpoints.sharded import CONTENTS, STATE, SUFFIX, VERSION, split_checkpoint
from mae_toolkit.errors import UserError
from mae_toolkit.files import atomic_write, sync_folder

# Hidden, so that no pattern of checkpoints finds them.
UNFINISHED = re.compile(rf'\.[^/]+{re.escape(SUFFIX)}\.(partial|removed)')


def name_partial(folder: str | Path) -> Path:
    """Return the name under which a folder is written, which nobody resumes from."""
    return Path(folder).with_name(f'.{Path(folder).name}.partial')


def begin_folder(folder: str | Path, outline: Mapping[str, Any]) -> Path:
    """Make the folder into which all processes write, and write all but the tensors into it.

    Args:
        folder: The final folder.
        outline: The checkpoint, with placeholders for tensors.

    Returns:
        The partial folder.
    """
    partial = name_partial(folder)
    if partial.exists():  # of a save that failed
        shutil.rmtree(partial)
    partial.mkdir(parents=True)
    buffer = BytesIO()  # a history that grows while it is written would break the file
    torch.save(dict(outline), buffer)
    atomic_write(partial / STATE, buffer.getvalue())
    return partial


def publish_folder(folder: str | Path, meta: Mapping[str, Any], interim: bool = False) -> Path | None:
    """Give a folder that all processes have written its name.

    What has the name already is never overwritten: it is set aside under another name.

    Args:
        folder: The final folder.
        meta: The numbers of iterations and epochs.
        interim: Whether the next checkpoint replaces it.

    Returns:
        Where the folder is now that had the name before; None if there was none.
    """
    folder = Path(folder)
    partial = name_partial(folder)
    files = {
        path.name: (path.stat().st_size, checksum(path) if path.name in (STATE, INDEX) else None)
        for path in sorted(partial.iterdir())
    }
    about = dict(version=VERSION, iter=meta['iter'], epoch=meta['epoch'], interim=interim, files=files)
    atomic_write(partial / CONTENTS, json.dumps(about, indent=1) + '\n')  # flushes the folder, too
    aside = None
    if os.path.lexists(folder):
        aside = next(
            path for n in range(1, 10**6) if not os.path.lexists(path := folder.with_name(f'{folder.name}.{n}'))
        )
        folder.rename(aside)
    partial.rename(folder)
    sync_folder(folder.parent)
    return aside


def write_sharded(checkpoint: Mapping[str, Any], folder: str | Path) -> None:
    """Write a checkpoint as a folder from this process alone.

    Args:
        checkpoint: A training checkpoint, as :func:`~mae_toolkit.checkpoints.files.load_training` returns it.
        folder: The folder, whose name ends in ``.dcp``.

    Raises:
        UserError: If the folder exists, or its name ends otherwise.
    """
    folder = Path(folder)
    if folder.suffix != SUFFIX:
        raise UserError(f'{folder}: the name of a sharded checkpoint ends in {SUFFIX}.')
    if os.path.lexists(folder):
        raise UserError(f'{folder} exists already, and is not overwritten: choose another name.')
    outline, tensors = split_checkpoint(checkpoint)
    partial = begin_folder(folder, outline)
    with warnings.catch_warnings():
        warnings.filterwarnings('ignore', message='torch.distributed is disabled')
        dcp.save(tensors, storage_writer=dcp.FileSystemWriter(partial), no_dist=True)
    publish_folder(folder, checkpoint['meta'])


def remove_folder(folder: str | Path) -> None:
    """Remove a folder so that a kill leaves it whole, or under a name that nobody resumes from."""
    folder = Path(folder)
    doomed = folder.with_name(f'.{folder.name}.removed')
    if doomed.exists():
        shutil.rmtree(doomed)
    folder.rename(doomed)
    shutil.rmtree(doomed)


def remove_unfinished(folder: str | Path) -> list[Path]:
    """Remove the folders that killed runs have left half written or half removed, and return their paths."""
    folder = Path(folder)
    found = sorted(folder.iterdir()) if folder.is_dir() else []
    left = [path for path in found if UNFINISHED.fullmatch(path.name) and path.is_dir() and not path.is_symlink()]
    for path in left:
        shutil.rmtree(path)
    return left
