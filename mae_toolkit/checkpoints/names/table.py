r"""Tables of names that are read in both directions, and formats, which are such tables with a sign to know them by.

A table is a tuple of pairs ``(theirs, ours)`` or ``(theirs, ours, values)``. Both names are templates, in which braces
stand for what varies:

==================== =================================================================================================
``{block}``          A whole number. Any word will do; the same word stands for the same number in both names.
``{stage+1}``        A whole number that is greater by one than ``{stage}`` in the other name.
``{layer:qkv|proj}`` What the regular expression behind the colon matches; it need only be written in one of the names.
``{param}``          ``weight`` or ``bias``.
``{_chunk}``         A number that we do not keep, by the underscore. Such a pair is read from left to right alone.
``{norm_param}``     A parameter or a statistic of a batch norm.
``{objective}``      The name of our objective whose head receives the prediction head; only in our names.
==================== =================================================================================================

``ours`` is None for a tensor that is not read: it is computed, or belongs to a part that we do not have. ``values``
says how the numbers are laid out differently, see :mod:`mae_toolkit.checkpoints.names.values`.
"""

import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from typing import NamedTuple

import torch
from torch import Tensor

from mae_toolkit.checkpoints.names.regroup import Regroup, regroup
from mae_toolkit.checkpoints.names.template import FIELD, Template, find_patterns
from mae_toolkit.checkpoints.names.values import Values
from mae_toolkit.errors import MisfitError, UserError

ENCODER = 'encoder.'
BODY = 'encoder.body.'
MASK_TOKEN = 'encoder.mask_token'
HEAD = 'objectives.{objective}.head.proj.'

# The words for the names of this toolkit and of timm, which are no tables.
OURS, TIMM = 'ours', 'timm'

Pair = tuple[str, str | None] | tuple[str, str | None, Values]
Table = tuple[Pair, ...]

# What a change of values raises for a tensor of a shape that it was not written for.
WRONG_SHAPE = (IndexError, TypeError, RuntimeError, ValueError)


class Translation(NamedTuple):
    """Weights under our names.

    Attributes:
        weights: The tensors by our names.
        left: Names in the file that are not read.
        origin: Names in the file by our names: several where tensors are joined.
    """

    weights: dict[str, Tensor]
    left: list[str]
    origin: dict[str, tuple[str, ...]]


@dataclass(frozen=True)
class Format:
    """The names and the layout of the checkpoints of one method or program.

    Attributes:
        name: Whose checkpoints they are, for messages.
        signs: Templates of beginnings of names. A checkpoint has this format if, for each of them, it has a name that
            begins so.
        table: Every name that such a checkpoint has. The first pair that fits a name counts; a name that fits none is
            refused.
        whole: Whether the decoder and the prediction head are read, too, not the encoder alone.
        regroups: Tensors that are joined or cut before the table is read, and the other way round after it is written.
        arch: How timm's names of the architectures begin that compute what such weights were trained for, where others
            have the same parameters; any if empty.
    """

    name: str
    signs: tuple[str, ...]
    table: Table
    whole: bool = False
    regroups: tuple[Regroup, ...] = ()
    arch: str = ''

    @property
    def word(self) -> str:
        """The word by which a user states the format: ``'hiera-mae'`` for ``'Hiera MAE with window positions'``."""
        return re.sub(r'^the official | (of|with) .*', '', self.name).lower().replace("'s", '').replace(' ', '-')

    def recognizes(self, names: Iterable[str]) -> bool:
        """Tell whether a checkpoint with these names has this format."""
        names = list(names)
        return all(any(_compile(sign).match(name) for name in names) for sign in self.signs)

    def match(self, names: Iterable[str], objective: str = 'pixel') -> dict[str, str | None]:
        """Return our name, or None for what is not read, of each name that the table has a place for."""
        rules, any_of_theirs = _rules(self.table, objective), _any_of_theirs(self.table, objective)
        state, joined = regroup(self.regroups, dict.fromkeys(names, torch.empty(0)))
        found: dict[str, str | None] = {}
        for name in filter(any_of_theirs.fullmatch, state):
            rule, fields = next(_fitting(rules, name, theirs=True), (None, {}))
            if rule is not None:
                ours = None if rule.ours is None else rule.ours.fill(fields)
                found |= dict.fromkeys(joined.get(name, (name,)), ours)
        return found

    def to_ours(self, state: Mapping[str, Tensor], in_chans: int = 3, objective: str = 'pixel') -> Translation:
        """Translate a checkpoint of this format into our names and layout.

        Args:
            state: The tensors by the names of this format.
            in_chans: Channels of the images.
            objective: Name of our objective that receives the prediction head.

        Returns:
            The tensors by our names, and what became of the names.

        Raises:
            UserError: If the table has no place for a name, two names stand for one tensor, or a tensor cannot have
                its shape.
        """
        weights: dict[str, Tensor] = {}
        left: list[str] = []
        origin, unknown = {}, []
        rules = _rules(self.table, objective)
        state, joined = regroup(self.regroups, state)
        for name, tensor in state.items():
            rule, fields = next(_fitting(rules, name, theirs=True), (None, {}))
            if rule is None:
                unknown.append(name)
            elif rule.ours is None:
                left += joined.get(name, (name,))
            else:
                ours = rule.ours.fill(fields)
                if ours in weights:  # two names for one tensor: which of them is meant?
                    unknown.append(name)
                weights[ours] = self._change(name, tensor, rule.values, in_chans)
                origin[ours] = joined.get(name, (name,))
        if unknown:
            raise MisfitError(
                f'The weights look like {self.name}, which has no {", ".join(unknown[:6])} ({len(unknown)} such keys); '
                'remove what is not of the encoder, or convert the checkpoint to the names of timm.'
            )
        return Translation(weights, left, origin)

    def to_theirs(self, state: Mapping[str, Tensor], in_chans: int = 3, objective: str = 'pixel') -> dict[str, Tensor]:
        """Translate tensors under our names into the names and the layout of this format.

        It is the inverse of :meth:`to_ours`, without the names that are not read.

        Raises:
            UserError: If this format has no place for a name.
        """
        found, unknown = to_theirs(self.table, state, in_chans, objective)
        if unknown:
            raise UserError(
                f'{self.name} has no place for {len(unknown)} of the {len(state)} tensors, such as {unknown[0]}.'
            )
        return regroup(tuple(group.invert() for group in reversed(self.regroups)), found)[0]

    def _change(self, name: str, tensor: Tensor, values: Values | None, in_chans: int) -> Tensor:
        try:
            return tensor if values is None else values.to_ours(tensor, in_chans)
        except WRONG_SHAPE as error:
            raise MisfitError(
                f'The weights look like {self.name}, of which {name} cannot have the shape {tuple(tensor.shape)}.'
            ) from error


def to_theirs(
    table: Table, state: Mapping[str, Tensor], in_chans: int = 3, objective: str = 'pixel'
) -> tuple[dict[str, Tensor], list[str]]:
    """Read a table from right to left.

    Returns:
        The tensors by their names, and those of our names for which the table has no place.
    """
    found, unknown = {}, []
    rules = _rules(table, objective)
    for name, tensor in state.items():
        rule, fields = next(_fitting(rules, name, theirs=False), (None, {}))
        if rule is None:
            unknown.append(name)
        else:
            found[rule.theirs.fill(fields)] = tensor if rule.values is None else rule.values.to_theirs(tensor, in_chans)
    return found, unknown


def under(theirs: str, table: Table, ours: str = '') -> Table:
    """Make the table of a part of a network from that of the part alone: with a prefix before each of the names."""

    def longer(pair: Pair) -> Pair:
        name = None if pair[1] is None else ours + pair[1]
        return (theirs + pair[0], name) if len(pair) == 2 else (theirs + pair[0], name, pair[2])

    return tuple(longer(pair) for pair in table)


def same(*names: str) -> Table:
    """Make the pairs of names that are the same in both."""
    return tuple((name, name) for name in names)


class _Rule(NamedTuple):
    theirs: Template
    ours: Template | None
    values: Values | None
    is_written: bool  # whether nothing of the name is forgotten


@cache
def _rules(table: Table, objective: str) -> tuple[_Rule, ...]:
    """Compile the pairs of a table.

    Raises:
        ValueError: If a field is in one of two names alone, so that the pair could not be read in both directions.
    """
    rules = []
    for theirs, ours, *values in table:
        ours = ours and ours.replace('{objective}', objective)
        fields = [{field[1] for field in FIELD.finditer(name)} for name in (theirs, ours) if name is not None]
        forgotten = {field for field in fields[0] if field.startswith('_')}
        if fields[0] - forgotten != fields[-1] - forgotten:
            raise ValueError(f'{theirs!r} and {ours!r} have different fields.')
        patterns = find_patterns(theirs, ours or '')
        template = None if ours is None else Template(ours, patterns)
        rules.append(_Rule(Template(theirs, patterns), template, values[0] if values else None, not forgotten))
    return tuple(rules)


@cache
def _any_of_theirs(table: Table, objective: str) -> re.Pattern[str]:
    """Join the patterns of their names, by which the names of other formats are sorted out at once."""
    joined = '|'.join(rule.theirs.pattern for rule in _rules(table, objective))
    return re.compile(re.sub(r'\(\?P<\w+>', '(?:', joined))  # groups of one pattern cannot have the same name


@cache
def _compile(template: str) -> re.Pattern[str]:
    return Template(template, find_patterns(template)).regex


def _fitting(rules: Iterable[_Rule], name: str, theirs: bool) -> Iterator[tuple[_Rule, dict[str, str]]]:
    """List the rules that a name fits, with the values of their fields."""
    for rule in rules:
        template = rule.theirs if theirs else rule.ours if rule.is_written else None
        fields = None if template is None else template.parse(name)
        if fields is not None:
            yield rule, fields
