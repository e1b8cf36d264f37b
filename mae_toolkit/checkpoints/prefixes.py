"""Finding what the names of a model's weights begin with in a file, where another module holds the model."""

from collections.abc import Callable, Collection, Iterable, Mapping
from typing import NamedTuple, TypeVar

from torch import Tensor

from mae_toolkit.checkpoints.names import BODY, ENCODER, OURS, TIMM, Format, find_format
from mae_toolkit.checkpoints.names.match import has_same_numbers
from mae_toolkit.checkpoints.names.timm import is_timms
from mae_toolkit.errors import UserError

T = TypeVar('T')


class Match(NamedTuple):
    """How names of a file fit a model.

    Attributes:
        pairs: Names of the file by those names of the model that they stand for.
        unknown: How many names of the file stand for nothing that such a file has.
    """

    pairs: dict[str, str]
    unknown: int = 0


def find_prefix(
    state: Mapping[str, Tensor], own: Mapping[str, Tensor], match: Callable[[Collection[str]], Match]
) -> str:
    """Find the beginning of names behind which most names of a model follow: ``'model.backbone.'``.

    Of several beginnings of one name, behind which equally many follow, it is that behind which fewest unknown names
    follow, and the shortest of these.

    Args:
        state: The tensors of a file by name.
        own: The state dict of the model.
        match: Finds the names of the model among names without their prefix.

    Returns:
        The prefix; empty if the names fit as they are, or too few names fit in any way.

    Raises:
        UserError: If two prefixes fit equally, with both.
    """
    found = _match_all(_group(state), match)
    best = max(len(match.pairs) for match in found.values())
    if 3 * best < sum(name.startswith(ENCODER) for name in own):
        return ''
    equal = [prefix for prefix, match in found.items() if len(match.pairs) == best]
    chosen: list[str] = []
    for prefix in sorted(equal, key=lambda prefix: (found[prefix].unknown, len(prefix))):
        if not any(prefix.startswith(other) or other.startswith(prefix) for other in chosen):
            chosen.append(prefix)
    if len(chosen) > 1:  # a student and a teacher of other widths have the same names
        fits = {p: sum(has_same_numbers(state[p + v], own[k]) for k, v in found[p].pairs.items()) for p in chosen}
        chosen = [prefix for prefix in chosen if fits[prefix] == max(fits.values())]
    if len(chosen) > 1:
        choices = ' or '.join(f'#{prefix[:-1]}' for prefix in chosen[:6])
        raise UserError(
            f'The weights hold {best} names of the model {len(chosen)} times, and nothing says which are meant: add '
            f'{choices} to the name of the file.'
        )
    return chosen[0]


def match_names(
    names: Collection[str],
    own: Collection[str],
    formats: Iterable[Format],
    objective: str | None,
    kinds: Collection[str],
    timm: Collection[str],
) -> Match:
    """Find the names of a model among the names of a file, by that way of naming which finds most.

    Args:
        names: Names of a file.
        own: Those of the model.
        formats: Formats that may be recognized.
        objective: Name of the objective that receives the prediction head.
        kinds: The ways of naming that are tried: ``'ours'``, ``'timm'`` and ``'formats'``.
        timm: Names of the architecture in timm.
    """
    found: list[Match] = []
    if OURS in kinds:
        found += [Match({name: name for name in names if name in own})]
        found += [Match({ENCODER + name: name for name in names if ENCODER + name in own})]
    if TIMM in kinds:
        unknown = sum(not is_timms(name, timm) for name in names)
        found += [Match({BODY + name: name for name in names if BODY + name in own}, unknown)]
    if 'formats' in kinds and (form := find_format(names, formats)) is not None:
        known = form.match(names, str(objective))
        pairs = {ours: theirs for theirs, ours in known.items() if ours is not None and ours in own}
        found += [Match(pairs, len(names) - len(known))]
    return max(found, key=lambda match: (len(match.pairs), -match.unknown), default=Match({}))


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


def _match_all(groups: Mapping[str, list[str]], match: Callable[[Collection[str]], Match]) -> dict[str, Match]:
    """Match each group of names, the largest first, as long as it could be the best."""
    found: dict[str, Match] = {}
    best = 0
    for prefix in sorted(groups, key=lambda prefix: (-len(groups[prefix]), len(prefix))):
        if found and len(groups[prefix]) < best:
            break
        found[prefix] = match(groups[prefix])
        best = max(best, len(found[prefix].pairs))
    return found
