"""Finding what the names of a model's weights begin with in a file, where another module holds the model."""

from collections.abc import Callable, Collection, Iterable, Mapping
from typing import TypeVar

from torch import Tensor

from mae_toolkit.checkpoints.names import BODY, ENCODER, OURS, TIMM, Format, find_format
from mae_toolkit.checkpoints.names.match import has_same_numbers
from mae_toolkit.errors import UserError

# Names of a file by the names of a model: those that the model has.
Pairs = dict[str, str]
T = TypeVar('T')


def find_prefix(
    state: Mapping[str, Tensor], own: Mapping[str, Tensor], match: Callable[[Collection[str]], Pairs]
) -> str:
    """Find the beginning of names behind which most names of a model follow: ``'model.backbone.'``.

    Args:
        state: The tensors of a file by name.
        own: The state dict of the model.
        match: Finds the names of the model among names without their prefix.

    Returns:
        The prefix; empty if the names fit as they are, or too few names fit in any way.

    Raises:
        UserError: If two prefixes fit equally, with both.
    """
    pairs = _match_all(_group(state), match)
    best = max(map(len, pairs.values()))
    if 3 * best < sum(name.startswith(ENCODER) for name in own):
        return ''
    equal = [prefix for prefix, found in pairs.items() if len(found) == best]
    if any(prefix == '' for prefix in equal):
        return ''
    equal = [prefix for prefix in equal if not any(prefix != p and prefix.startswith(p) for p in equal)]
    if len(equal) > 1:  # a student and a teacher of other widths have the same names
        fits = {p: sum(has_same_numbers(state[p + theirs], own[k]) for k, theirs in pairs[p].items()) for p in equal}
        equal = [prefix for prefix in equal if fits[prefix] == max(fits.values())]
    if len(equal) > 1:
        choices = ' or '.join(f'#{prefix[:-1]}' for prefix in equal[:6])
        raise UserError(
            f'The weights hold {best} names of the model {len(equal)} times, and nothing says which are meant: add '
            f'{choices} to the name of the file.'
        )
    return equal[0]


def match_names(
    names: Collection[str],
    own: Collection[str],
    formats: Iterable[Format],
    objective: str | None,
    kinds: Collection[str],
) -> Pairs:
    """Find the names of a model among the names of a file, by that way of naming which finds most.

    Args:
        names: Names of a file.
        own: Those of the model.
        formats: Formats that may be recognized.
        objective: Name of the objective that receives the prediction head.
        kinds: The ways of naming that are tried: ``'ours'``, ``'timm'`` and ``'formats'``.
    """
    found: list[Pairs] = []
    if OURS in kinds:
        found += [{name: name for name in names if name in own}]
        found += [{ENCODER + name: name for name in names if ENCODER + name in own}]
    if TIMM in kinds:
        found += [{BODY + name: name for name in names if BODY + name in own}]
    if 'formats' in kinds and (form := find_format(names, formats)) is not None:
        pairs = form.match(names, str(objective)).items()
        found += [{ours: theirs for theirs, ours in pairs if ours is not None and ours in own}]
    return max(found, key=len, default={})


def take_off(prefix: str, named: Mapping[str, T]) -> dict[str, T]:
    """Return what lies under a prefix of names, without it."""
    return {name.removeprefix(prefix): value for name, value in named.items() if name.startswith(prefix)}


def _group(names: Iterable[str]) -> dict[str, list[str]]:
    """Group names, without what they begin with, by each of their beginnings that end in a dot, and by none."""
    groups: dict[str, list[str]] = {'': []}
    for name in names:
        groups[''].append(name)
        for i, letter in enumerate(name):
            if letter == '.':
                groups.setdefault(name[: i + 1], []).append(name[i + 1 :])
    return groups


def _match_all(groups: Mapping[str, list[str]], match: Callable[[Collection[str]], Pairs]) -> dict[str, Pairs]:
    """Match each group of names, the largest first, as long as it could be the best."""
    pairs: dict[str, Pairs] = {}
    best = 0
    for prefix in sorted(groups, key=lambda prefix: (-len(groups[prefix]), len(prefix))):
        if pairs and len(groups[prefix]) < best:
            break
        pairs[prefix] = match(groups[prefix])
        best = max(best, len(pairs[prefix]))
    return pairs
