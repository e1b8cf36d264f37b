"""Make the table of compatible parts from the registered classes and the rules about them; nothing is built."""

import itertools
import textwrap
from collections import Counter
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

from mae_toolkit.models import Decoder, Encoder, Loss, Masking, Target, rules
from mae_toolkit.models.rules import Refusal
from mae_toolkit.registry import MODELS, list_arguments, list_names

Rule = Callable[[Any, Any], Refusal | None]
ROLES = (Encoder, Masking, Decoder, Target, Loss)
# Arguments that turn a class into another kind of part, each with the attributes that it sets.
VARIANTS: dict[type, dict[str, dict[str, Any]]] = {
    Encoder: {'mask_token=True': {'fills_hidden': True}},
    Target: {'norm_pix=True': {'kind': 'patches'}},  # of a target that gives pictures without it
}


class Matrix(NamedTuple):
    """All combinations of parts.

    Attributes:
        axes: By role, the parts by name: classes that have the attributes of their variant, or built parts.
        allowed: How many combinations the rules allow.
        refused: How many combinations they refuse, by the reason of the first rule that does.
    """

    axes: Mapping[type, Mapping[str, Any]]
    allowed: int
    refused: Counter[str]


def find_kinds(role: type) -> dict[str, type]:
    """Find the toolkit's classes of a role and their variants, with the attributes that rules read.

    Returns:
        Classes by name, such as ``'ViT'`` and ``'ViT, mask_token=True'``; those of projects and users are left out.
    """
    found = {}
    for name in list_names(role):
        cls = MODELS.get(name)
        if not cls.__module__.startswith('mae_toolkit.'):
            continue
        found[name] = cls
        for argument, attributes in VARIANTS.get(role, {}).items():
            if argument.partition('=')[0] in list_arguments(cls) and getattr(cls, 'kind', 'picture') == 'picture':
                found[f'{name}, {argument}'] = type(name, (cls,), attributes)
    return found


def count_combinations(axes: Mapping[type, Mapping[str, Any]] | None = None) -> Matrix:
    """Count the combinations of encoder, masking, decoder, target and loss that the rules allow and refuse.

    Args:
        axes: By role, parts by name, classes or built; all registered classes if None.
    """
    axes = axes or {role: find_kinds(role) for role in ROLES}
    pairs: list[list[Refusal | None]] = [
        [rule(a, b) for a, b in itertools.product(axes[one].values(), axes[other].values())]
        for rule, one, other in ((rules.check_hidden_filled, Encoder, Decoder), (rules.check_loss_kind, Target, Loss))
    ]
    refusals = [a or b for a, b in itertools.product(*pairs) for _ in axes[Masking]]
    refused = Counter(refusal.reason for refusal in refusals if refusal is not None)
    return Matrix(axes, len(refusals) - refused.total(), refused)


def format_table(found: Matrix) -> str:
    """Format the combinations in Markdown: two tables with numbered reasons, and the counts."""
    reasons: dict[str, int] = {}
    parts = [
        _format_pairs('encoder', found.axes[Encoder], found.axes[Decoder], rules.check_hidden_filled, reasons),
        _format_pairs('target', found.axes[Target], found.axes[Loss], rules.check_loss_kind, reasons),
        '\n'.join(_wrap(f'{number}. {reason[0].upper()}{reason[1:]}', '   ') for reason, number in reasons.items()),
        _wrap(
            f'Every masking ({", ".join(found.axes[Masking])}) goes with all of them. Of '
            f'{found.allowed + found.refused.total():,} combinations the rules allow {found.allowed:,} and refuse '
            f'{found.refused.total():,}; strides and units are checked by their numbers.'
        ),
    ]
    return '\n\n'.join(parts)


def _wrap(text: str, indent: str = '') -> str:
    """Break a text into lines of up to 120 columns, all but the first indented."""
    return textwrap.fill(text, 120, subsequent_indent=indent, break_long_words=False, break_on_hyphens=False)


def _format_pairs(
    corner: str, rows: Mapping[str, Any], columns: Mapping[str, Any], rule: Rule, reasons: dict[str, int]
) -> str:
    """Format a table of pairs; reasons that it is the first to give are added to ``reasons`` with their number."""
    lines = [f'| {corner} | {" | ".join(columns)} |', '|' + '---|' * (len(columns) + 1)]
    for name, row in rows.items():
        cells = [_format_cell(rule(row, column), reasons) for column in columns.values()]
        lines.append(f'| {name} | {" | ".join(cells)} |')
    return '\n'.join(lines)


def _format_cell(refusal: Refusal | None, reasons: dict[str, int]) -> str:
    if refusal is None:
        return 'yes'
    return f'no ({reasons.setdefault(refusal.reason, len(reasons) + 1)})'
