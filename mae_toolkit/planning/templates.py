"""Where the configs of the toolkit are."""

from pathlib import Path

import mae_toolkit
from mae_toolkit.errors import UserError

PACKAGE = Path(mae_toolkit.__file__).resolve().parent
PLACES = (PACKAGE / 'configs', PACKAGE.parent / 'configs')  # of an installed package, of a checkout


def find_template(name: str) -> Path:
    """Find a config of the toolkit by its name in ``configs``, such as ``'detection/custom_faster-rcnn.py'``.

    Args:
        name: Path below ``configs``.

    Raises:
        UserError: If it was not installed.
    """
    for place in PLACES:
        if (place / name).is_file():
            return place / name
    raise UserError(f'The config {name} of the toolkit is not in {" or ".join(map(str, PLACES))}: install it again.')
