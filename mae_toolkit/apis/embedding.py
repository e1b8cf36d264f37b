"""Vectors of the images of a folder, made by a trained encoder and kept in a file."""

import dataclasses
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from PIL import Image

from mae_toolkit import __version__
from mae_toolkit.apis.encoders import load_encoder
from mae_toolkit.apis.feature_pictures import draw_components
from mae_toolkit.downstream.encoder_transform import EncoderTransform
from mae_toolkit.errors import UserError
from mae_toolkit.evaluation import embeddings
from mae_toolkit.evaluation.embeddings import POOLINGS, Embeddings
from mae_toolkit.evaluation.embeddings.cache import EmbeddingCache, hash_weights
from mae_toolkit.evaluation.embeddings.files import check_suffix, description_of, is_embeddings
from mae_toolkit.evaluation.embeddings.reading import Images, list_items
from mae_toolkit.outputs import check_output
from mae_toolkit.planning.device import find_device


class FeatureExtractor(embeddings.FeatureExtractor):
    """Extract the features of images with an encoder, in batches and with a progress bar.

    Example::

        extractor = load_feature_extractor('runs/photos')
        found = extractor('photos/')  # a folder, a file, an array, a picture of Pillow, or several
        found['level4.mean']  # an array (N, C), a row for each of found.names
        for batch in extractor.encode('photos/'):
            batch.features.maps[-1]  # a tensor (B, C, h, w)
        extractor.draw('photos/1.jpg')  # a picture of Pillow
        extractor.write('photos/', 'features.npz')

    Made by :func:`load_feature_extractor`, or of an encoder and its transform; see
    :class:`mae_toolkit.evaluation.embeddings.FeatureExtractor`, which this one extends by pictures and files.

    Attributes:
        skipped: Reasons by name, of the images that the last call could not read.
        notes: What files say beside the vectors: where the encoder was.
    """

    def draw(self, images: Images, level: int | None = None, side: int | None = None) -> Image.Image:
        """Draw images beside their features: the three main components are red, green and blue.

        They are those of all the images together, so that the same color means similar features.

        Args:
            images: A folder, a file, a pattern, an array, a picture of Pillow, or several of them; a row for each.
            level: Level, counted from 1 for the finest; the coarsest if None. Finer levels have smaller positions.
            side: Pixels of the longer side of each picture; that of what the encoder saw if None.

        Raises:
            UserError: If there are no images, none can be read, or there is no such level.
        """
        return draw_components(self, images, level, side)

    def write(self, images: Images, out: str | Path, force: bool = False) -> Embeddings:
        """Make the vectors of images and write them into a file; images that it holds already are not encoded again.

        Args:
            images: A folder, a file, a pattern, or several of them.
            out: File ending in .npz, .parquet, .pt or .csv; see :func:`embed`.
            force: Replace a file that this method did not write.

        Returns:
            What the file holds.

        Raises:
            UserError: If there are no images or none can be read, or the file cannot be written.
        """
        return _write_vectors(self, *_list_files(images, Path(out), force), out)


def embed(
    source: str | Path,
    images: Images,
    out: str | Path | None = None,
    *,
    encoder: str | Mapping[str, Any] | None = None,
    levels: Sequence[int] | None = None,
    poolings: Sequence[str] = POOLINGS,
    size: int | tuple[int, int] | None = None,
    batch_size: int = 32,
    device: str | None = None,
    force: bool = False,
) -> Embeddings:
    """Make the vectors of images: every level and every pooling, in one pass.

    Example::

        embeddings = embed('runs/photos', 'photos/', 'features.npz')
        vectors = embeddings['level4.mean']  # (N, C), a row for each of embeddings.names

    A run that was interrupted goes on where it stopped, and images that the file holds already are not encoded again,
    as long as neither they nor the weights have changed.

    Args:
        source: Folder of a run, exported folder, checkpoint or weights, see :func:`load_encoder`.
        images: A folder, files, arrays or pictures of Pillow.
        out: File ending in .npz, .parquet, .pt or .csv; only for images in files. Nothing is written if None. A CSV
            holds the mean of the coarsest level (or what comes nearest), and so does what is returned then.
        encoder: Where the source does not say it: the architecture in timm, or a config.
        levels: Levels, counted from 1 for the finest; all if None.
        poolings: Some of ``'mean'``, ``'max'``, ``'gem'``, ``'class'`` and ``'prefix'``; those of tokens are left out
            where an encoder has none.
        size: Pixels of the images, or height and width; as in the training if None.
        batch_size: Images per batch.
        device: Device; a GPU if there is one.
        force: Replace a file that this function did not write.

    Returns:
        Names, vectors, sizes, and what was skipped.

    Raises:
        UserError: If there are no images or none can be read, the source does not fit, or the file cannot be written.
    """
    listed = None if out is None else _list_files(images, Path(out), force)  # before the encoder is loaded
    extractor = load_feature_extractor(
        source, encoder, levels=levels, poolings=poolings, size=size, batch_size=batch_size, device=device
    )
    return extractor(images) if out is None or listed is None else _write_vectors(extractor, *listed, out)


def _write_vectors(extractor: FeatureExtractor, items: list[Path], names: list[str], out: str | Path) -> Embeddings:
    """Write the vectors of files; those that the file holds already are not made again."""
    cache = EmbeddingCache(out, describe_extractor(extractor), extractor.notes)
    found, _ = cache.extend(names, items, lambda paths, chosen, bar: extractor.embed(paths, chosen, False, bar))
    return found


def _list_files(images: Images, out: Path, force: bool) -> tuple[list[Path], list[str]]:
    """List the images for a file of embeddings, which is none of them, and check that it can be written."""
    check_suffix(out)
    items, names = list_items(images)
    if not all(isinstance(item, Path) for item in items):
        raise UserError(f'{out} is written for images in files alone: leave it out for arrays and pictures.')
    is_read = is_embeddings(out)
    kept = [row for row, item in enumerate(items) if not (is_read and item.name == out.name and out.samefile(item))]
    items, names = [items[row] for row in kept], [names[row] for row in kept]
    if not items:
        raise UserError('There are no images: name a folder, a file, or pass an array.')
    check_output(out, force, [item for item in items if item.name == out.name], is_embeddings)
    if out.suffix == '.csv':
        check_output(description_of(out), force, (), lambda path: is_embeddings(out))
    return items, names


def _name_source(source: str | Path) -> str:
    """Return a source by which it is found from any folder."""
    return str(Path(source).absolute()) if Path(source).exists() else str(source)


def load_feature_extractor(
    source: str | Path,
    encoder: str | Mapping[str, Any] | None = None,
    *,
    levels: Sequence[int] | None = None,
    poolings: Sequence[str] = POOLINGS,
    size: int | tuple[int, int] | None = None,
    batch_size: int = 32,
    device: str | None = None,
) -> FeatureExtractor:
    """Load a trained encoder, to get the features of images.

    Example::

        extractor = load_feature_extractor('runs/photos')
        vectors = extractor('photos/')['level4.mean']

    Args:
        source: Folder of a run, exported folder, checkpoint or weights, see :func:`load_encoder`.
        encoder: Where the source does not say it: the architecture in timm, or a config.
        levels: Levels, counted from 1 for the finest; all if None.
        poolings: Some of ``'mean'``, ``'max'``, ``'gem'``, ``'class'`` and ``'prefix'``; those of tokens are left out
            where an encoder has none.
        size: Pixels of the images, or height and width; as in the training if None.
        batch_size: Images per batch.
        device: Device; a GPU if there is one.

    Returns:
        The extractor.

    Raises:
        UserError: If there is no such source, it does not say what its encoder is, or a pooling or level is unknown.
    """
    built, transform = load_encoder(source, encoder, device=device or find_device().type)
    extractor = FeatureExtractor(built, resize_to(transform, size), poolings, levels, batch_size)
    extractor.notes = {'source': _name_source(source), 'encoder': encoder}
    return extractor


def resize_to(transform: EncoderTransform, size: int | tuple[int, int] | None, whole: bool = False) -> EncoderTransform:
    """Return a transform to another size.

    Args:
        transform: The transform.
        size: Pixels of the result, or its height and width; as before if None.
        whole: Resize the whole image, in place of cutting out its center.
    """
    preparation = transform.preparation
    rows, columns = preparation.size if size is None else (size, size) if isinstance(size, int) else size
    short_side = None
    if not whole and preparation.short_side is not None:
        short_side = round(preparation.short_side * min(rows, columns) / min(preparation.size))
    changed = dataclasses.replace(preparation, size=(rows, columns), short_side=short_side)
    return EncoderTransform(changed, transform.limits)


def describe_extractor(extractor: embeddings.FeatureExtractor) -> dict[str, Any]:
    """Return what vectors depend on beside the images, as plain values."""
    transform = extractor.transform
    return {
        'encoder': hash_weights(extractor.encoder),
        'preparation': transform.preparation.to_dict() if isinstance(transform, EncoderTransform) else repr(transform),
        'levels': None if extractor.levels is None else list(extractor.levels),
        'poolings': list(extractor.poolings),
        'version': __version__,
    }
