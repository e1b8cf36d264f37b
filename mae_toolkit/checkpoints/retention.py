"""Choosing which sharded checkpoints of a run are removed."""

from dataclasses import dataclass
from pathlib import Path

from mae_toolkit.checkpoints.links import find_linked
from mae_toolkit.checkpoints.sharded import SUFFIX, find_folder_damage, read_contents
from mae_toolkit.errors import UserError


@dataclass(frozen=True, order=True)
class Published:
    """A sharded checkpoint in the folder of a run.

    Attributes:
        iter: Iterations after which it was saved.
        epoch: Epochs after which it was saved.
        interim: Whether the next checkpoint replaces it.
        path: The folder.
    """

    iter: int
    epoch: int
    interim: bool
    path: Path


def list_published(folder: str | Path, until: int) -> list[Published]:
    """List the sharded checkpoints directly in a folder, the oldest first.

    Links, folders with other names, and folders without a whole list of contents are left out.

    Args:
        folder: The folder of a run.
        until: Iterations up to which they are listed: later ones are of a run that went on from another checkpoint.
    """
    found = []
    for kind in ('epoch', 'iter'):
        for path in Path(folder).glob(f'{kind}_*{SUFFIX}'):
            if path.is_symlink() or not path.is_dir() or not path.stem.removeprefix(f'{kind}_').isdigit():
                continue
            try:
                contents = read_contents(path)
            except UserError:
                continue
            found.append(Published(contents['iter'], contents['epoch'], bool(contents.get('interim')), path))
    return sorted(one for one in found if one.iter <= until)


def choose_outdated(folder: str | Path, until: int, most: int, keep_every: int | None, by_epoch: bool) -> list[Path]:
    """Choose the checkpoints that may go.

    The last ones stay, every k-th stays, and so does what a link in the folder names; none goes unless the newest is
    whole.

    Args:
        folder: The folder of a run.
        until: Iterations of the newest checkpoint.
        most: How many stay; 0 or less for all but interim ones.
        keep_every: Epochs or iterations of which every multiple stays; None for none.
        by_epoch: Whether ``keep_every`` counts epochs.
    """
    published = list_published(folder, until)
    if len(published) < 2 or find_folder_damage(published[-1].path, thorough=False):
        return []
    regular = [one for one in published if not one.interim]
    kept = {one.path for one in (regular[-most:] if most > 0 else regular)} | {published[-1].path}
    if keep_every is not None:
        kept |= {one.path for one in regular if not (one.epoch if by_epoch else one.iter) % keep_every}
    linked = find_linked(folder)
    return [one.path for one in published if one.path not in kept and one.path.name not in linked]
