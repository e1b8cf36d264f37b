"""What became of the keys of a checkpoint."""

import logging
from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

from mmengine.logging import MMLogger

from mae_toolkit.printing import write_into_log_file

SHOWN = 6  # keys of each kind, of which there may be hundreds
KINDS = ('loaded', 'resized', 'new', 'dropped')


class Report(NamedTuple):
    """What became of the keys of a checkpoint.

    Attributes:
        loaded: Keys that fitted as they were, by their names in the model.
        resized: Tables of positions that were resized, by their names in the model, with both grids, and first
            convolutions that were adapted to other channels, with the rule.
        new: Keys of the model that the checkpoint lacks.
        dropped: Keys of the checkpoint that are not in the model, by their names in the file.
        origins: Names in the file of the keys in the model, where they differ; one key may be computed from several.
    """

    loaded: list[str]
    resized: list[str]
    new: list[str]
    dropped: list[str]
    origins: Mapping[str, Sequence[str]] = {}

    @property
    def counts(self) -> str:
        """Return how many keys there are of each kind, as text."""
        return ', '.join(f'{len(getattr(self, kind))} {kind}' for kind in KINDS)

    def __str__(self) -> str:
        """One line for each kind, in which long lists are shortened."""
        return '\n'.join(f'{kind:>8}: {len(getattr(self, kind)):4}  {shorten(getattr(self, kind))}' for kind in KINDS)

    def keys_of_file(self) -> dict[str, list[str]]:
        """Return the keys of the file that were loaded, resized and dropped: each of them is in exactly one list."""
        resized = self._trace(key.split(' (')[0] for key in self.resized)
        loaded = self._trace(self.loaded) - resized
        return {'loaded': sorted(loaded), 'resized': sorted(resized), 'dropped': self.dropped}

    def add_origins(
        self, state: Iterable[str], origins: Mapping[str, Sequence[str]], by_timm: Sequence[str] = ()
    ) -> 'Report':
        """Add from which keys of the file those of the model come: all others are dropped.

        Args:
            state: The keys of the file.
            origins: Those from which each key of the model was computed.
            by_timm: Tables of the model that timm's filter has resized.
        """
        traced = self._replace(
            loaded=[name for name in self.loaded if name not in by_timm],
            resized=sorted([*self.resized, *(f'{name} (from a square, by timm)' for name in by_timm)]),
            origins=origins,
        )
        kept = traced.keys_of_file()
        return traced._replace(dropped=sorted(set(state) - {*kept['loaded'], *kept['resized']}))

    def add_channels(self, adapted: Mapping[str, str]) -> 'Report':
        """Add which convolutions were adapted to other channels, and how."""
        return self._replace(
            loaded=[name for name in self.loaded if name not in adapted],
            resized=sorted([*self.resized, *(f'{name} ({how})' for name, how in adapted.items())]),
        )

    def _trace(self, keys: Iterable[str]) -> set[str]:
        return {name for key in keys for name in self.origins.get(key, (key,))}


def log_report(report: Report, what: str, source: object, prefix: str = '') -> None:
    """Write every key into the log file, the first few of each kind into the log, and for the user how many there are.

    Args:
        report: What became of the keys.
        what: What begins with the weights, such as ``'the encoder'``.
        source: Where they were read.
        prefix: What was taken off their names.
    """
    logger = MMLogger.get_current_instance()
    found = f', by the names that begin with {prefix!r}' if prefix else ''
    logger.info(f'Weights of {what} from {source}{found}:\n{report}')
    lists = [f'{kind}: {", ".join(getattr(report, kind))}' for kind in KINDS if len(getattr(report, kind)) > SHOWN]
    if lists:
        write_into_log_file(logger, logging.INFO, '\n'.join(['All keys, where they were shortened:', *lists]))
    said = f'{what[:1].upper()}{what[1:]} begins with {source}{found}: {report.counts}; the log names them.'
    logger.info(said, extra={'for_users': True})


def shorten(keys: Sequence[str], most: int = SHOWN) -> str:
    """Join the first few keys with commas, and say how many more there are."""
    first = ', '.join(f'{key:.200}' for key in keys[:most])
    return f'{first}, … ({len(keys) - most} more)' if len(keys) > most else first
