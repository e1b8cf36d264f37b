"""The table of what goes with what, from the registered classes and the rules about them; nothing is built."""

import itertools
from collections import Counter
from typing import NamedTuple

from mae_toolkit.models import Decoder, Encoder, Loss, Masking, Target, rules
from mae_toolkit.registry import MODELS, list_arguments, list_names

# Arguments that make another kind of part of a class: what they are called, and the attribute that they set.
VARIANTS = {
    Encoder: {'mask_token=True': {'fills_hidden': True}},
    Target: {'norm_pix=True': {'kind': 'patches'}},  # of what is a picture without it
}


class Matrix(NamedTuple):
    """All combinations of parts.

    Attributes:
        axes: By role, the parts by name: classes that have the attributes of their variant.
        allowed: How many combinations the rules allow.
        refused: How many they refuse, by the reason of the first rule that does.
    """

    axes: dict[type, dict[str, type]]
    allowed: int
    refused: Counter


def kinds(role):
    """The toolkit's classes of a role, and their variants, by name: classes with the attributes that rules look at."""
    found = {}
    for name in list_names(role):
        cls = MODELS.get(name)
        if not cls.__module__.startswith('mae_toolkit.'):
            continue  # of a project or a user
        found[name] = cls
        for argument, attributes in VARIANTS.get(role, {}).items():
            if argument.partition('=')[0] in list_arguments(cls) and getattr(cls, 'kind', 'picture') == 'picture':
                found[f'{name}, {argument}'] = type(name, (cls,), attributes)
    return found


def matrix(axes=None):
    """Every combination of encoder, masking, decoder, target and loss.

    Args:
        axes (dict | None): By role, parts by name, classes or built; all registered classes if None.
    """
    axes = axes or {role: kinds(role) for role in (Encoder, Masking, Decoder, Target, Loss)}
    filling, comparing = (
        [rule(a, b) for a, b in itertools.product(axes[one].values(), axes[other].values())]
        for rule, one, other in ((rules.check_hidden_filled, Encoder, Decoder), (rules.check_loss_kind, Target, Loss))
    )
    reasons = Counter(_reason(a or b) for a, b in itertools.product(filling, comparing) for _ in axes[Masking])
    return Matrix(axes, reasons.pop(None, 0), reasons)


def table(found):
    """The matrix in Markdown: two tables with their reasons, and the counts."""
    reasons = {}
    parts = [
        _grid('encoder', found.axes[Encoder], found.axes[Decoder], rules.check_hidden_filled, reasons),
        _grid('target', found.axes[Target], found.axes[Loss], rules.check_loss_kind, reasons),
        '\n'.join(f'{number}. {reason[0].upper()}{reason[1:]}' for reason, number in reasons.items()),
        f'Every masking ({", ".join(found.axes[Masking])}) goes with all of them. Of '
        f'{found.allowed + found.refused.total():,} combinations the rules allow {found.allowed:,} and refuse '
        f'{found.refused.total():,}; strides and units are checked by their numbers.',
    ]
    return '\n\n'.join(parts)


def _grid(corner, rows, columns, rule, reasons):
    lines = [f'| {corner} | {" | ".join(columns)} |', '|' + '---|' * (len(columns) + 1)]
    for name, row in rows.items():
        cells = [_cell(rule(row, column), reasons) for column in columns.values()]
        lines.append(f'| {name} | {" | ".join(cells)} |')
    return '\n'.join(lines)


def _cell(reason, reasons):
    return 'yes' if reason is None else f'no ({reasons.setdefault(_reason(reason), len(reasons) + 1)})'


def _reason(sentence):
    """A refusal without the names of the parts."""
    return sentence if sentence is None else sentence.partition(': ')[2]
