"""Compare the classes on which a checkpoint was trained with those of a config or a dataset."""

import logging
import unicodedata

from mmengine.logging import print_log

from mae_toolkit.errors import UserError

SHOWN = 5  # names of a list in a sentence
LENGTH = 40  # characters of a name in a sentence


def read_classes(checkpoint: dict) -> list[str] | None:
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


def check_classes(path: str, checkpoint: dict, classes: object, owner: str = 'the config') -> list[str] | None:
    """Refuse a checkpoint whose classes are others, or are numbered otherwise.

    Names that differ in upper and lower case, blanks or the form of Unicode alone get a warning: the numbers are the
    same. Without names on one of the sides nothing is compared.

    Args:
        path: The checkpoint, for the sentence.
        checkpoint: What it holds.
        classes: Names in the order of their numbers, or None.
        owner: Who has them: ``'the config'`` or ``'the dataset'``.

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
    if [_simple(name) for name in known] == [_simple(name) for name in here]:
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


def _first_difference(known, here):
    what = 'the same names in another order, ' if sorted(known) == sorted(here) else ''
    for number, (there, name) in enumerate(zip(known, here, strict=False)):
        if there != name:
            return f'{what}class {number} is {_short(there)!r} there and {_short(name)!r} here'
    longer, where = (known, 'there') if len(known) > len(here) else (here, 'here')
    number = min(len(known), len(here))
    return f'class {number}, {_short(longer[number])!r}, is only {where}'


def _simple(name):
    return unicodedata.normalize('NFKC', ''.join(name.split())).casefold()


def _some(names):
    return ', '.join(map(_short, names[:SHOWN])) + (', …' if len(names) > SHOWN else '')


def _short(name):
    """A name without control characters, which a file of somebody else may hold."""
    text = name if name.isprintable() else repr(name)[1:-1]
    return text if len(text) <= LENGTH else f'{text[: LENGTH - 1]}…'
