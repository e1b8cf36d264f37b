"""Weights of any origin, read from what a user names: a file, one set of weights in it, a run's folder, a cache."""

from pathlib import Path
from typing import Any, NamedTuple

from mmengine.logging import MMLogger
from torch import Tensor

from mae_toolkit.checkpoints.checks import check_finite, check_layouts, check_sizes
from mae_toolkit.checkpoints.containers import CONTAINERS, Found, describe_choice, find_weights
from mae_toolkit.checkpoints.files import GRIDS, load
from mae_toolkit.checkpoints.prefixes import take_off
from mae_toolkit.checkpoints.protocols import Grid
from mae_toolkit.checkpoints.source import WeightsSource, find_source
from mae_toolkit.errors import UserError


class Weights(NamedTuple):
    """Weights as a file holds them.

    Attributes:
        tensors: The tensors by name.
        source: Where they were read.
        prefix: What the names of those that are meant begin with, if the user has said so.
        grids: Rows and columns of tables of positions, by name, if the file states them.
    """

    tensors: dict[str, Tensor]
    source: WeightsSource
    prefix: str = ''
    grids: dict[str, Grid] = {}

    def by_own_names(self) -> dict[str, Tensor]:
        """Return the tensors for a model that has these very names, without a prefix that the user has named.

        Raises:
            UserError: If the user states a format.
        """
        if self.source.format:
            word = self.source.format
            raise UserError(f'{self.source} is read by the names in it, not by those of a format: leave {word}: out.')
        return take_off(self.prefix, self.tensors)


def read_weights(source: str | Path | WeightsSource) -> Weights:
    """Read the weights that a user names, executing nothing from their file.

    Args:
        source: ``[FORMAT:]FILE[#PART]``, see :func:`~mae_toolkit.checkpoints.source.find_source`.

    Raises:
        UserError: If there is no such file or part, it is unclear which weights are meant, or they are no dense
            tensors of finite numbers.
    """
    source = find_source(source)
    return take_weights(source, load(source.path, skip=['optimizer']))


def take_weights(source: WeightsSource, checkpoint: dict[str, Any]) -> Weights:
    """Take the weights out of a checkpoint of which the caller needs other parts, too; see :func:`read_weights`."""
    found = _extract(source, checkpoint)
    check_sizes(source, found.tensors)
    check_finite(source, found.tensors)
    meta = checkpoint.get('meta')
    grids = meta.get(GRIDS) if isinstance(meta, dict) else None
    return Weights(found.tensors, source, found.prefix, {} if grids is None else _read_grids(source, grids))


def load_weights(source: str | Path | WeightsSource) -> dict[str, Tensor]:
    """Load the tensors of a file by name, without the rest of the checkpoint; see :func:`read_weights`.

    A prefix that the user has named is taken off.
    """
    return load_weights_and_grids(source)[0]


def load_weights_and_grids(source: str | Path | WeightsSource) -> tuple[dict[str, Tensor], dict[str, Grid]]:
    """Load tensors by name as :func:`load_weights` does, and for which grids their tables of positions are.

    Returns:
        The tensors by name, and rows and columns of tables by name, empty if the file does not state them.
    """
    weights = read_weights(source)
    return weights.by_own_names(), take_off(weights.prefix, weights.grids)


def _extract(source: WeightsSource, checkpoint: dict[str, Any]) -> Found:
    """Return the weights in a checkpoint, and say in the log which were taken where there is a choice.

    Raises:
        UserError: If there are none, with the names that the file has instead, or one is no dense tensor.
    """
    found = find_weights(source.path, checkpoint, source.part)
    check_layouts(source, found.tensors)
    logger = MMLogger.get_current_instance()
    if not source.part and (said := describe_choice(checkpoint, found)):
        logger.info(f'{source}: {said}.', extra={'for_users': True})
    elif found.place:
        chosen = found.place.split('.')[-1] not in CONTAINERS and not source.part
        logger.info(f'{source}: the weights under {found.place!r} are taken.', extra={'for_users': chosen})
    return found


def _read_grids(path: str | Path | WeightsSource, grids: Any) -> dict[str, Grid]:
    """Check the rows and columns by name that a file states.

    Raises:
        UserError: If they are no pairs of numbers.
    """
    pairs = isinstance(grids, dict) and all(
        isinstance(grid, (list, tuple)) and len(grid) == 2 and all(type(n) is int and n > 0 for n in grid)
        for grid in grids.values()
    )
    if not pairs:
        raise UserError(
            f'{path}: its {GRIDS} are no rows and columns by name: the file was not written by this toolkit.'
        )
    return {name: (rows, columns) for name, (rows, columns) in grids.items()}
