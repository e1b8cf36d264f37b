"""Refuse labels that do not belong to the images."""

from collections.abc import Sequence
from pathlib import Path

from mae_toolkit.errors import UserError
from mae_toolkit.printing import printable, some


def refuse_strangers(source: Path, folder: Path, names: Sequence[str], exists: Sequence[bool], what: str = '') -> None:
    """Refuse labels of images that do not exist.

    Args:
        source: File or folder of the labels.
        folder: Where the images were looked for.
        names: Name of the image of each label.
        exists: Whether there is one.
        what: What the labels are called; "images that SOURCE names" if empty.

    Raises:
        UserError: With their number and the first few.
    """
    missing = [printable(name) for name, there in zip(names, exists, strict=True) if not there]
    if missing:
        subject = what or f'images that {printable(source)} names'
        lack = 'have no image' if what else 'are not'
        raise UserError(
            f'{len(missing)} of the {len(names)} {subject} {lack} in {printable(folder)} ({some(missing, 3)}): give '
            'the folder of the images with --images, or remove these labels.'
        )
