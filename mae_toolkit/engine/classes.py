"""Compare the classes on which a checkpoint was trained with those of a config or a dataset."""

import logging
import unicodedata
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from mmengine.logging import print_log
from torch import nn

from mae_toolkit.errors import UserError
from mae_toolkit.printing import shorten

MOST_NAMES = 5  # of a list, in a message
MOST_CHARACTERS = 40  # of a name, in a message


def read_classes(checkpoint: Mapping[str, Any]) -> list[str] | None:
    """Read the names of the classes from a loaded checkpoint, in the order of their numbers; None if it has none."""
    meta = checkpoint.get('meta')
    if not isinstance(meta, dict):
        return None
    about = meta.get('dataset_meta')
    for where in (about if isinstance(about, dict) else {}, meta):
        for key in ('classes', 'CLASSES'):  # MMDetection 2 and 3.0rc
            names = where.get(key)
            if isinstance(names, list | tuple) and names and all(isinstance(name, str | int) for name in names):
                return [str(name) for name in names]
    return None


def check_classes(
    path: str | Path, checkpoint: Mapping[str, Any], classes: object, owner: str = 'the config'
) -> list[str] | None:
    """Refuse a checkpoint that was trained on other classes, or on the same classes with other numbers.

    Names that differ only in upper and lower case, spaces or their Unicode form get a warning: the numbers are the
    same. Without names on one of the two sides nothing is compared.

    Args:
        path: The checkpoint, named in the message.
        checkpoint: What it holds.
        classes: The names to compare with, in the order of their numbers, or None.
        owner: Whose names these are: ``'the config'`` or ``'the dataset'``.

    Returns:
        The names in the checkpoint; None if it has none.

    Raises:
        UserError: With both lists, and the first difference.
    """
    known = read_classes(checkpoint)
    if known is None or not isinstance(classes, list | tuple) or not classes:
        return known
    here = [str(name) for name in classes]
    if known == here:
        return known
    both = f'{path} was trained on {len(known)} classes ({_some(known)}), and {owner} has {len(here)} ({_some(here)})'
    if [_simplify(name) for name in known] == [_simplify(name) for name in here]:
        print_log(
            f'{both}: the names differ in upper and lower case, blanks or their Unicode form alone, and are taken for '
            'the same.',
            'current',
            logging.WARNING,
        )
        return known
    raise UserError(
        f'{both}: {_first_difference(known, here)}. Name the classes of the checkpoint in its order '
        '(metainfo=dict(classes=...), or classes=... of a LabeledDataset), or take a checkpoint of this config.'
    )


def check_number_of_classes(model: nn.Module, dataset: Any) -> None:
    """Refuse a classifier whose number of classes is not that of the labels it is trained on.

    Args:
        model: The model; without ``num_classes`` nothing is compared.
        dataset: The dataset; without ``labels``, or ``has_labels``, nothing is compared.

    Raises:
        UserError: With both numbers.
    """
    known = getattr(model, 'num_classes', None)
    has_labels = hasattr(dataset, 'labels') or getattr(dataset, 'has_labels', False)
    classes = dataset.metainfo['classes'] if has_labels else None
    if classes is not None and known not in (None, len(classes)):
        raise UserError(
            f'The model has num_classes={known}, and the images of {dataset.root} are of {len(classes)} classes '
            f'({", ".join(classes[:5])}{", …" if len(classes) > 5 else ""}): set model.num_classes={len(classes)}.'
        )


def _first_difference(known: Sequence[str], here: Sequence[str]) -> str:
    what = 'the same names in another order, ' if sorted(known) == sorted(here) else ''
    for number, (there, name) in enumerate(zip(known, here, strict=False)):
        if there != name:
            return f'{what}class {number} is {_shorten(there)!r} there and {_shorten(name)!r} here'
    longer, where = (known, 'there') if len(known) > len(here) else (here, 'here')
    number = min(len(known), len(here))
    return f'class {number}, {_shorten(longer[number])!r}, is only {where}'


def _simplify(name: str) -> str:
    """Remove case, spaces and differences in the Unicode form from a name."""
    return unicodedata.normalize('NFKC', ''.join(name.split())).casefold()


def _some(names: Sequence[str]) -> str:
    return ', '.join(map(_shorten, names[:MOST_NAMES])) + (', …' if len(names) > MOST_NAMES else '')


def _shorten(name: str) -> str:
    """Cut a name, and escape its control characters: it comes from a file of somebody else."""
    text = name if name.isprintable() else repr(name)[1:-1]
    return shorten(text, MOST_CHARACTERS)
