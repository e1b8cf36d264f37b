"""What is explained: encoders, masked autoencoders and images, loaded once or handed over as they are."""

from __future__ import annotations

import argparse
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from mae_toolkit.apis.embedding import load_feature_extractor
from mae_toolkit.apis.reconstruct import Reconstructor, load_reconstructor
from mae_toolkit.argument_types import positive_int
from mae_toolkit.errors import UserError
from mae_toolkit.evaluation.embeddings import FeatureExtractor
from mae_toolkit.evaluation.embeddings.reading import Images, list_items
from mae_toolkit.models import MaskedAutoencoder
from mae_toolkit.spread import spread_indices

EncoderSource = str | Path | FeatureExtractor
AutoencoderSource = str | Path | Reconstructor | MaskedAutoencoder


def open_extractor(
    source: EncoderSource,
    encoder: str | Mapping[str, Any] | None = None,
    size: int | Sequence[int] | None = None,
    device: str | None = None,
) -> FeatureExtractor:
    """Load an encoder with the transform of its images; one that is loaded is returned as it is.

    Args:
        source: What :func:`~mae_toolkit.apis.load_encoder` takes, or an extractor.
        encoder: Where the source does not say it: the architecture in timm, or a config.
        size: Pixels of the images, or height and width; as in the training if None.
        device: Device; a GPU if there is one.

    Raises:
        UserError: If there is no such source, it does not say what its encoder is, or an extractor is given with what
            it has decided already.
    """
    if isinstance(source, FeatureExtractor):
        _refuse_ignored(source, encoder=encoder, size=size)
        return source
    return load_feature_extractor(source, encoder, size=check_size(size), device=device)


def check_size(size: int | Sequence[int] | None) -> int | tuple[int, int] | None:
    """Return the pixels of images as one number, or as height and width; None stays as it is.

    Raises:
        UserError: If there are more than two numbers, or none.
    """
    if size is None or isinstance(size, int):
        return size
    if len(size) not in (1, 2):
        raise UserError(f'size {" ".join(map(str, size))}: give one number, or height and width.')
    return size[0], size[-1]


def open_reconstructor(source: AutoencoderSource, device: str | None = None, **options: Any) -> Reconstructor:
    """Load a masked autoencoder with its decoder; a reconstructor is returned as it is.

    Args:
        source: Folder of a pretraining, checkpoint, a model in evaluation mode, or a reconstructor.
        device: Device; a GPU if there is one. That of the model for one that is loaded.
        options: See :func:`~mae_toolkit.apis.load_reconstructor`.

    Raises:
        UserError: If there is no such source, it has no decoder, it predicts no picture, or something loaded is given
            with what it has decided already.
    """
    if isinstance(source, Reconstructor):
        seed = options.pop('seed', source.seed) or None  # the default of all functions is 0
        _refuse_ignored(source, **options, seed=None if seed == source.seed else seed)
        return source
    if isinstance(source, MaskedAutoencoder):
        _refuse_ignored(source, config=options.pop('config', None))
        return Reconstructor(source, **options)
    return load_reconstructor(source, device=device, **options)


def _refuse_ignored(source: object, **options: Any) -> None:
    """Refuse options that say how to load or prepare what is loaded and prepared already."""
    given = [name for name, value in options.items() if value is not None]
    if given:
        raise UserError(
            f'{" and ".join(given)}: this {type(source).__name__} is loaded already, and would ignore it. Give it when '
            'it is made, or name a run or checkpoint instead.'
        )


class Choice(NamedTuple):
    """Images that were chosen.

    Attributes:
        items: Paths, arrays and pictures.
        names: What they are called.
        note: A sentence for a caption, with a blank before it, that says of how many they were chosen; empty if all.
    """

    items: list[Any]
    names: list[str]
    note: str


def choose_images(images: Images, most: int) -> Choice:
    """Choose so many images at most, evenly from all that are given.

    Args:
        images: A folder, a file, a pattern, an array, a picture of Pillow, or several of them.
        most: How many.

    Returns:
        The images, what they are called, and a note.

    Raises:
        UserError: If there are none, or ``most`` is below 1.
    """
    if most < 1:
        raise UserError(f'most={most} must be 1 or more: it is the number of images that are used.')
    items, names = list_items(images)
    chosen = spread_indices(len(items), most)
    note = describe_choice(len(chosen), len(items))
    return Choice([items[i] for i in chosen], [names[i] for i in chosen], note and f' {note}')


def describe_choice(used: int, given: int, what: str = '') -> str:
    """Say in a sentence that not all images, of which ``what`` may say more, were used; nothing if all were."""
    return (
        ''
        if used == given
        else f'Of {given:,} images{what}, {used:,} were used, evenly chosen; most (--max-images) sets how many.'
    )


def add_encoder_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of a sub-command that takes an encoder."""
    parser.add_argument('--arch', dest='encoder', help='architecture of timm, if the weights do not say it')
    parser.add_argument('--size', type=positive_int, nargs='+', help='pixels of the images, or height and width')


def add_most(parser: argparse.ArgumentParser, default: int) -> None:
    """Add the option that says how many images are used."""
    parser.add_argument(
        '--max-images',
        dest='most',
        type=positive_int,
        default=default,
        help='images that are used; %(default)s if more',
    )
