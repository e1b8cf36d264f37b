"""Refuse labels that do not belong to the images, and images that cannot be read."""

from collections.abc import Sequence
from pathlib import Path

from mae_toolkit.datasets.image_headers import ImageHeader, read_image_headers
from mae_toolkit.errors import UserError
from mae_toolkit.printing import format_count, printable, some


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


def refuse_unreadable(source: str | Path, paths: Sequence[Path]) -> list[ImageHeader]:
    """Read the headers of labeled images, and refuse the labels if some images cannot be read.

    Args:
        source: File or folder of the labels.
        paths: The images.

    Returns:
        The headers, each with a size.

    Raises:
        UserError: With the number of files that cannot be read, and the first few.
    """
    headers = read_image_headers(paths)
    bad = [f'{printable(header.path.name)}: {header.reason}' for header in headers if header.size is None]
    if bad:
        raise UserError(
            f'{len(bad)} of the {format_count(len(paths), "image")} of {printable(source)} cannot be read '
            f'({some(bad, 3)}): save them again, or remove them with their labels.'
        )
    return headers
