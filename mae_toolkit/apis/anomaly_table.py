"""One table of the measures of several detectors of anomalies."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from mae_toolkit.errors import UserError
from mae_toolkit.printing import format_count, printable

# Title of a column, and the keys of its measure.
COLUMNS = {
    'image AUROC, max': ('max', 'auroc'),
    'image AUROC, top': ('top', 'auroc'),
    'F1, max': ('max', 'f1'),
    'F1-max, max': ('max', 'f1_max'),
    'pixel AUROC': ('pixel_auroc',),
    'AUPRO 0.3': ('aupro_0.3',),
    'AUPRO 0.05': ('aupro_0.05',),
}


def format_anomaly_table(files: Sequence[str | Path]) -> str:
    """Format the measures of several detectors as a table in Markdown, in percent.

    Args:
        files: What ``AnomalyDetector.evaluate(..., out=FILE)`` has written, one file for each detector. A row has the
            name of its file; of several categories it shows their mean.

    Returns:
        The table, and below it how many images were tested.

    Raises:
        UserError: If a file cannot be read or is none of these, or two were measured on other images.
    """
    if not files:
        raise UserError('No evaluation is named: give the files that anomaly.py evaluate --out has written.')
    found = {Path(path): _read(path) for path in files}
    tested = {path: _name_images(one) for path, one in found.items()}
    first = next(iter(tested))
    for path, images in tested.items():
        if images != tested[first]:
            raise UserError(
                f'{printable(path)} measured {format_count(len(images), "image")}, and {printable(first)} '
                f'{format_count(len(tested[first]), "image")}, which are not the same: compare detectors on the same '
                'images.'
            )
    lines = ['| detector | ' + ' | '.join(COLUMNS) + ' |', '|---' * (len(COLUMNS) + 1) + '|']
    lines += [f'| {path.stem} | ' + ' | '.join(_list_cells(one)) + ' |' for path, one in found.items()]
    counts = _choose(found[first])
    return '\n'.join([*lines, '', f'{counts["normal"]} normal and {counts["defective"]} defective images; percent.'])


def _read(path: str | Path) -> dict[str, Any]:
    try:
        found = json.loads(Path(path).read_bytes())
    except OSError as error:
        raise UserError(f'{printable(path)} cannot be read ({error.strerror}).') from None
    except ValueError:
        found = None
    if not isinstance(found, dict) or not found.get('measured') or 'images' not in found:
        raise UserError(f'{printable(path)} holds no measures: give a file that anomaly.py evaluate --out has written.')
    return found


def _name_images(found: dict[str, Any]) -> list[tuple[str, str]]:
    """Name the images of an evaluation and their kinds."""
    return sorted((Path(one['image']).name, one['kind']) for one in found['images'])


def _choose(found: dict[str, Any]) -> dict[str, Any]:
    """Return the mean over categories, or the measures of the only one."""
    measured = found['measured']
    return measured.get('mean') or next(iter(measured.values()))


def _list_cells(found: dict[str, Any]) -> list[str]:
    cells = []
    for keys in COLUMNS.values():
        value: Any = _choose(found)
        for key in keys:
            value = None if value is None else value.get(key)
        cells.append('-' if value is None else f'{100 * value:.1f}')
    return cells
