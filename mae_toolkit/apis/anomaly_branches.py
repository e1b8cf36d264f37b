"""The models behind the methods of a detector of anomalies, from a description that its file keeps."""

import dataclasses
import inspect
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

from mae_toolkit.apis.embedding import resize_to
from mae_toolkit.apis.encoders import load_autoencoder, load_encoder, load_encoder_up_to
from mae_toolkit.arguments import check_types
from mae_toolkit.downstream.encoder_transform import EncoderTransform
from mae_toolkit.errors import UserError
from mae_toolkit.evaluation.anomaly.branch import Branch
from mae_toolkit.evaluation.anomaly.errors import ErrorReader
from mae_toolkit.evaluation.anomaly.methods import METHODS, check_method
from mae_toolkit.evaluation.anomaly.readers import FeatureReader, Reader, find_deepest_level
from mae_toolkit.evaluation.embeddings.cache import hash_weights
from mae_toolkit.registry import suggest

READERS = {'features': FeatureReader, 'errors': ErrorReader}
FILLED_IN = ('encoder', 'model', 'seed')  # arguments that are no settings
LISTS = ('levels', 'out_indices')


@dataclass(frozen=True)
class BranchRecipe:
    """A method of a detector, and the model that feeds it.

    Attributes:
        method: Name of the method.
        source: Where its model is, see :func:`~mae_toolkit.apis.load_encoder`.
        encoder: Architecture or config, where the source does not say it.
        size: Height and width of the images, or pixels of both; as in the training if None.
        settings: Arguments of the method and of what it reads.
        seed: Seed of the method, and of masks.
    """

    method: str
    source: str
    encoder: str | Mapping[str, Any] | None = None
    size: int | tuple[int, int] | None = None
    settings: Mapping[str, Any] = field(default_factory=dict)
    seed: int = 0

    @property
    def reads_errors(self) -> bool:
        """Return whether the method reads the errors of a masked autoencoder."""
        return METHODS[self.method].reads == 'errors'

    def build(self, device: str) -> Branch:
        """Load the model, and build the method, which is not fitted."""
        kind = METHODS[self.method].reads
        reading = {key: self.settings[key] for key in _find_settings(READERS[kind]) if key in self.settings}
        if kind == 'features':
            reading = {'local': METHODS[self.method].local, 'out_indices': self.settings.get('out_indices')} | reading
            return self._join(*load_reader(self.source, self.encoder, **reading, device=device))
        model, transform = load_autoencoder(self.source, device)
        return self._join(ErrorReader(model, **reading, seed=self.seed), transform)

    def _join(self, reader: Reader, transform: EncoderTransform) -> Branch:
        chosen = {key: self.settings[key] for key in _find_settings(METHODS[self.method]) if key in self.settings}
        return Branch(self.method, reader, resize_to(transform, self.size, whole=True), chosen, self.seed)

    def to_dict(self) -> dict[str, Any]:
        """Return plain values, from which the recipe can be made again."""
        return dataclasses.asdict(self)


def make_recipes(
    source: str | Path,
    methods: Sequence[str],
    reconstruct_with: str | Path | None,
    encoder: str | Mapping[str, Any] | None,
    size: int | tuple[int, int] | None,
    settings: Mapping[str, Any],
    seed: int,
) -> list[BranchRecipe]:
    """Make the recipes of the methods of a detector.

    Raises:
        UserError: If a method is unknown, there is none or one twice, or none of them takes a setting.
    """
    methods = [methods] if isinstance(methods, str) else list(methods)
    if not methods:
        raise UserError(f'No method is named: choose some of {", ".join(METHODS)}.')
    for name in methods:
        check_method(name)
    if len(set(methods)) < len(methods):
        raise UserError(f'{", ".join(methods)}: name each method once.')
    known = [key for name in methods for key in list_settings(name)]
    for key in settings:
        if key not in known:
            raise UserError(f'{" and ".join(methods)}: there is no setting {key!r}{suggest(key, known)}')
    if reconstruct_with is not None and 'reconstruction' not in methods:
        raise UserError(f'A run to reconstruct with is given, and the methods are {", ".join(methods)}.')
    return [
        BranchRecipe(
            name,
            _resolve(reconstruct_with if METHODS[name].reads == 'errors' and reconstruct_with else source),
            encoder if METHODS[name].reads == 'features' else None,
            size,
            _check_settings(name, settings),
            seed,
        )
        for name in methods
    ]


def list_settings(method: str) -> list[str]:
    """List the settings of a method, and of what it reads."""
    cls = METHODS[method]
    of_encoder = ['out_indices'] if cls.reads == 'features' else []
    return [*_find_settings(cls), *_find_settings(READERS[cls.reads]), *of_encoder]


def describe_branch(branch: Branch) -> dict[str, Any]:
    """Return what a fitted method depends on: the weights and the preparation of images."""
    transform = branch.transform
    assert isinstance(transform, EncoderTransform)
    return {'weights': hash_weights(branch.reader.model), 'preparation': transform.preparation.to_dict()}


def load_reader(
    source: str | Path,
    encoder: str | Mapping[str, Any] | None = None,
    levels: Sequence[int] | None = None,
    out_indices: Sequence[int] | None = None,
    local: int = 1,
    device: str = 'cpu',
) -> tuple[FeatureReader, EncoderTransform]:
    """Load as much of an encoder as its levels that are read need, and the transform of its images.

    Args:
        source: See :func:`~mae_toolkit.apis.load_encoder`.
        encoder: Where the source does not say it: the architecture in timm, or a config.
        levels: See :class:`~mae_toolkit.evaluation.anomaly.readers.FeatureReader`.
        out_indices: Levels that there are, see the class of the encoder; by default the last of each stride.
        local: Positions per side over which features are averaged.
        device: Device of the encoder.

    Raises:
        UserError: If there is no such source or level.
    """
    deepest = partial(find_deepest_level, levels=levels)
    model, transform = load_encoder_up_to(source, encoder, out_indices, device, deepest)
    return FeatureReader(model, levels, local), transform


def _find_settings(cls: Any) -> list[str]:
    return [key for key in inspect.signature(cls).parameters if key not in FILLED_IN]


def _check_settings(method: str, settings: Mapping[str, Any]) -> dict[str, Any]:
    """Return those of the settings that a method has; one number may stand for a list of levels.

    Raises:
        UserError: If a value is of another type.
    """
    known = list_settings(method)
    chosen = {key: value for key, value in settings.items() if key in known}
    for key in LISTS:
        if isinstance(chosen.get(key), int):
            chosen[key] = (chosen[key],)
    takers: list[Any] = [METHODS[method], READERS[METHODS[method].reads], load_encoder]
    for cls in takers:
        check_types(f'{method}: ', cls, {key: chosen[key] for key in chosen if key in _find_settings(cls)})
    return chosen


def _resolve(source: str | Path) -> str:
    """Return a source that holds in other folders, too."""
    return str(Path(source).resolve()) if Path(source).exists() else str(source)
