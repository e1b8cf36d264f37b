"""Making one file of a sharded training checkpoint, and the other way round."""

from pathlib import Path

import torch

from mae_toolkit.checkpoints.files import load_training
from mae_toolkit.checkpoints.plain_values import make_plain
from mae_toolkit.checkpoints.publishing import write_sharded
from mae_toolkit.checkpoints.sharded import SUFFIX, is_sharded
from mae_toolkit.checkpoints.source import find_source
from mae_toolkit.errors import UserError
from mae_toolkit.files import atomic_write

FILES = ('.pth', '.pt')


def convert_checkpoint(source: str | Path, out: str | Path) -> None:
    """Write a training checkpoint in the other format: a folder as one file, or a file as a folder.

    A run goes on from either, bit for bit. One file is what other programs read, and what to keep for long: torch does
    not promise that later versions read the folders of this one.

    Args:
        source: A folder ``*.dcp`` or a link to one, or a file.
        out: A file ``*.pth`` for a folder, a folder ``*.dcp`` for a file.

    Raises:
        UserError: If the source is no whole training checkpoint, or ``out`` is not of the other format.
    """
    path, out = find_source(source).path, Path(out)
    if is_sharded(path) and out.suffix not in FILES:
        raise UserError(f'--out {out}: a file made of {path} ends in {" or ".join(FILES)}.')
    if not is_sharded(path) and out.suffix != SUFFIX:
        raise UserError(f'--out {out}: a folder made of {path} ends in {SUFFIX}.')
    checkpoint = load_training(path)
    make_plain(checkpoint)
    if is_sharded(path):
        atomic_write(out, lambda file: torch.save(checkpoint, file))
    else:
        write_sharded(checkpoint, out)
