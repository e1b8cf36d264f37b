"""The images of a folder with their vectors, made by an encoder or read from a file of ``mae-toolkit embed``."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from mae_toolkit.apis.embedding import FeatureExtractor, describe_extractor, load_feature_extractor
from mae_toolkit.downstream.encoder_transform import EncoderTransform
from mae_toolkit.errors import UserError
from mae_toolkit.evaluation.embeddings import Embeddings, read_embeddings
from mae_toolkit.evaluation.embeddings.cache import stamp
from mae_toolkit.evaluation.embeddings.reading import Images, list_items, refuse_none_read
from mae_toolkit.export.preparation import read_plain
from mae_toolkit.printing import format_count, some

FOLDER_ADVICE = 'name a folder, a file or a pattern'


@dataclass(frozen=True, eq=False)
class Collection:
    """Images in files, and a vector of each.

    Attributes:
        names: What they are called.
        paths: Their files.
        vectors: (N, C) float32.
        kind: Level and pooling of the vectors, such as ``'level4.mean'``.
        skipped: Reasons by name, of images that could not be read.
        extractor: With the encoder that made them; None if they were read from a file and no encoder was named.
        about: Which encoder made them, for the record.
    """

    names: tuple[str, ...]
    paths: tuple[Path, ...]
    vectors: np.ndarray
    kind: str
    skipped: Mapping[str, str]
    extractor: FeatureExtractor | None
    about: dict[str, Any]

    def __len__(self) -> int:
        """Return the number of images."""
        return len(self.names)


def collect_images(
    images: Images,
    source: str | Path | None = None,
    features: str | Path | None = None,
    vectors: str | None = None,
    *,
    encoder: str | Mapping[str, Any] | None = None,
    size: int | tuple[int, int] | None = None,
    batch_size: int = 32,
    device: str | None = None,
    needs_encoder: bool = False,
) -> Collection:
    """Make or read the vectors of images in files.

    Args:
        images: A folder, a file, a pattern, or several of them.
        source: The encoder, see :func:`~mae_toolkit.apis.load_encoder`.
        features: File of :func:`~mae_toolkit.apis.embed` that has the vectors of the images; it is only read.
        vectors: Level and pooling, such as ``'level4.mean'``; the mean of the coarsest level if None.
        encoder: Where the source does not say it: the architecture in timm, or a config.
        size: Pixels of the images; as in the training if None. A file has its own.
        batch_size: Images per batch.
        device: Device; a GPU if there is one.
        needs_encoder: Load the encoder of a file, too, to encode other images.

    Raises:
        UserError: If neither encoder nor file is named, the file is of another encoder or lacks images, or none of the
            images can be read.
    """
    items, names = list_items(images)
    if not all(isinstance(item, Path) for item in items):
        raise UserError(f'The images must be files: {FOLDER_ADVICE}.')
    if features is not None:
        if size is not None:
            raise UserError(f'size={size} does not apply to {features}, whose images have their size: leave one out.')
        known = _read_rows(features, names, items)
        extractor = _load_extractor_of(features, known, source, encoder, batch_size, device, needs_encoder)
    elif source is None:
        raise UserError('Name an encoder, or a file of features that mae-toolkit embed has made.')
    else:
        level, _, pooling = (vectors or '').rpartition('.')
        levels = [int(level[5:])] if level.startswith('level') and level[5:].isdigit() else None
        poolings = (pooling or 'mean',)
        extractor = load_feature_extractor(
            source, encoder, levels=levels, poolings=poolings, size=size, batch_size=batch_size, device=device
        )
        known = extractor.embed(items, names)
        if not len(known):
            refuse_none_read(len(items), known.skipped)
    by_name = dict(zip(names, items, strict=True))
    about = {'encoder': str(source or known.about.get('source')), 'features': str(features) if features else None}
    return Collection(
        names=known.names,
        paths=tuple(by_name[name] for name in known.names),
        vectors=known.choose(vectors),
        kind=known.default if vectors is None else vectors,
        skipped=known.skipped,
        extractor=extractor,
        about=about,
    )


def check_outside(out: str | Path, images: Images) -> None:
    """Refuse to write pictures into a folder of the images, where the next call would read them.

    Raises:
        UserError: If the path lies below one of the folders.
    """
    given: list[Any] = [images] if isinstance(images, str | Path) else list(images)  # type: ignore[arg-type]
    for folder in [one for one in given if isinstance(one, str | Path) and Path(one).is_dir()]:
        if Path(out).resolve().is_relative_to(Path(folder).resolve()):
            raise UserError(f'{out} lies among the images of {folder}, where it would be read as one: write elsewhere.')


def _read_rows(features: str | Path, names: list[str], paths: list[Path]) -> Embeddings:
    """Read the rows of images from a file of embeddings, which must have them as they are now."""
    known = read_embeddings(features)
    rows, made = {name: row for row, name in enumerate(known.names)}, known.about.get('stamps') or {}
    wanted = [name for name in names if name not in known.skipped]
    changed = [name for name, path in zip(names, paths, strict=True) if name in rows and made.get(name) != stamp(path)]
    missing = [name for name in wanted if name not in rows]
    if missing or changed:
        which = f'lacks {len(missing)} of {format_count(len(names), "image")}, such as {some(missing, 1)}'
        if not missing:
            which = f'was made before {format_count(len(changed), "image")} changed, such as {some(changed, 1)}'
        raise UserError(
            f'{features} {which}: bring it up to date with mae-toolkit embed ENCODER IMAGES --out {features}, with '
            'the same images.'
        )
    if not wanted:
        raise UserError(f'{features} has vectors of none of {format_count(len(names), "image")}.')
    found = known.select([rows[name] for name in wanted])
    skipped = {name: reason for name, reason in known.skipped.items() if name in set(names)}
    return Embeddings(found.names, found.features, found.sizes, skipped, found.about)


def _load_extractor_of(
    features: str | Path,
    known: Embeddings,
    source: str | Path | None,
    encoder: str | Mapping[str, Any] | None,
    batch_size: int,
    device: str | None,
    needs_encoder: bool,
) -> FeatureExtractor | None:
    """Load the encoder that made a file, if it is needed or named, and see that it is this one."""
    if source is None and not needs_encoder:
        return None
    found, key = source or known.about.get('source'), known.about.get('key')
    if found is None or not isinstance(key, Mapping):
        raise UserError(f'{features} does not say which encoder made it: make it with mae-toolkit embed.')
    arch = encoder if source is not None else known.about.get('encoder')
    extractor = load_feature_extractor(
        found, arch, levels=key['levels'], poolings=key['poolings'], batch_size=batch_size, device=device
    )
    extractor.transform = EncoderTransform(read_plain(key['preparation']))
    mine = describe_extractor(extractor)
    if mine['encoder'] != key['encoder']:
        raise UserError(
            f'{features} was made with another encoder (weights {key["encoder"]}) than {found} '
            f'({mine["encoder"]}): name that one, or make the file again with mae-toolkit embed.'
        )
    return extractor
