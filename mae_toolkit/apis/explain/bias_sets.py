"""Sets of images whose reconstruction errors are compared: chosen, labeled, read and measured."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from tqdm import tqdm

from mae_toolkit.apis.embedding import resize_to
from mae_toolkit.apis.explain.sources import check_size, describe_choice
from mae_toolkit.datasets.image_limits import DEFAULT_LIMITS
from mae_toolkit.datasets.labels.classes import read_classes
from mae_toolkit.downstream.encoder_transform import EncoderTransform
from mae_toolkit.errors import UserError
from mae_toolkit.evaluation.embeddings.reading import Images, list_items, read_batches, refuse_none_read
from mae_toolkit.evaluation.reconstruction_bias import MeasuredSet, SetMeasurer
from mae_toolkit.evaluation.reconstruction_bias.report import check_enough
from mae_toolkit.export.preparation import Preparation
from mae_toolkit.models import ImagePreprocessor, MaskedAutoencoder
from mae_toolkit.printing import format_count, printable
from mae_toolkit.spread import spread_indices

SIDE = 224  # pixels of the images of a model that does not say its size


@dataclass(frozen=True)
class ImageSet:
    """Images that are measured.

    Attributes:
        items: Files, arrays or pictures.
        names: What they are called.
        classes: Their classes; None if they have no labels.
        files: All files of which the images were chosen, resolved.
        note: A sentence that says of how many they were chosen; empty if all were.
    """

    items: list[Any]
    names: list[str]
    classes: list[str] | None
    files: frozenset[str]
    note: str


def choose_set(images: Images, labels: str | Path | None, most: int, what: str) -> ImageSet:
    """Choose images evenly, and find their classes.

    Args:
        images: A folder, files, arrays or pictures.
        labels: Class folders, or a CSV of files and classes; if None, the class folders in the images' own folder.
        most: Images at most.
        what: What the set is called in errors.

    Raises:
        UserError: If there are fewer than eight images, or labels that are named lack one of them.
    """
    items, names = list_items(images)
    check_enough(min(len(items), most), what)
    chosen = spread_indices(len(items), most)
    about = _list_files(items), describe_choice(len(chosen), len(items), f' ({what})')
    items, names = [items[i] for i in chosen], [names[i] for i in chosen]
    if labels is not None:
        return ImageSet(items, names, _look_up_classes(items, names, Path(labels)), *about)
    own = list(images) if isinstance(images, list | tuple) else [images]
    folder = own[0] if len(own) == 1 and isinstance(own[0], str | Path) else None
    if folder is None or not Path(folder).is_dir():
        return ImageSet(items, names, None, *about)
    try:
        classes = _look_up_classes(items, names, Path(folder))
    except UserError:  # nobody said that these folders were classes
        return ImageSet(items, names, None, *about)
    return ImageSet(items, names, classes if len(set(classes)) > 1 else None, *about)


def note_sets(own: ImageSet, others: ImageSet, unseen: ImageSet | None) -> list[str]:
    """Say what a reader of the comparison must know about the sets: what was left out, and what lies in two of them.

    Args:
        own: The images in question.
        others: The images of the training.
        unseen: The held-out images, if there are any.
    """
    notes = [one.note for one in (own, others, unseen) if one is not None and one.note]
    if own.classes is not None and any(one.classes is None for one in (others, unseen) if one is not None):
        which = 'reference has' if others.classes is None else 'held-out images have'
        notes.append(f'Classes are not compared, as the {which} none: name them (reference_labels).')
    compared, name = (others, 'the reference') if unseen is None else (unseen, 'the held-out images')
    if both := len(own.files & compared.files):
        notes.append(
            f'{both:,} of your {len(own.files):,} images are among {name}: these are compared with themselves.'
        )
    if unseen is not None and (both := len(unseen.files & others.files)):
        notes.append(f'{both:,} of the {len(unseen.files):,} held-out images are among those of the training.')
    return notes


def prepare_for(
    model: MaskedAutoencoder, transform: EncoderTransform | None, size: int | Sequence[int] | None
) -> EncoderTransform:
    """Make the transform of the images of a model, of which all get one size.

    Args:
        model: The model.
        transform: That of its run; None if it is not known.
        size: Pixels of the images, or height and width; as in the training if None.

    Raises:
        UserError: If the model does not normalize its images, or there are more than two numbers of pixels.
    """
    about = model.data_preprocessor
    if not isinstance(about, ImagePreprocessor):
        raise UserError('The units of its images are not known: the model has no data_preprocessor with mean and std.')
    if transform is None:
        rows, columns = (n * model.encoder.out_strides[-1] for n in model.encoder.grid or (0, 0))
        own = (rows or SIDE, columns or SIDE)
        mean, std = (tuple(values.flatten().tolist()) for values in (about.mean, about.std))
        transform = EncoderTransform(Preparation(mean, std, own, max(own)), DEFAULT_LIMITS)
    transform = resize_to(transform, check_size(size))
    (height, width), unit = transform.preparation.size, model.masking.unit
    if min(height, width) < 2 * unit:
        raise UserError(
            f'Images of {height} x {width} pixels have less than 2 x 2 cells of {unit} pixels: name a size of '
            f'{2 * unit} or more.'
        )
    return transform


def measure_set(
    model: MaskedAutoencoder,
    transform: EncoderTransform,
    images: ImageSet,
    what: str,
    skipped: dict[str, str],
    *,
    masks: int,
    seed: int,
    batch_size: int,
) -> MeasuredSet:
    """Measure the errors of a model on a set of images.

    Args:
        model: The model, in evaluation mode.
        transform: Prepares its images.
        images: The set.
        what: What it is called on the progress bar and in errors.
        skipped: Gets the reasons by name, of images that cannot be read.
        masks: Masks per image.
        seed: Seed of the masks.
        batch_size: Images per batch.

    Raises:
        UserError: If no image can be read, one has other channels than the model takes, or predictions are not finite.
    """
    preparation = transform.preparation
    measurer = SetMeasurer(model, masks, seed, preparation.channels == 3, float(preparation.largest_value))
    device, read = next(model.parameters()).device, []
    # A method of one's own may let the images of a batch look at each other, as MixMIM does.
    batch_size = batch_size if type(model) is MaskedAutoencoder else 1
    with tqdm(total=len(images.items), desc=what, unit='image', delay=1) as bar:
        for batch in read_batches(images.items, transform, batch_size):
            if batch.error is not None:
                raise batch.error
            skipped |= {images.names[index]: reason for index, reason in batch.skipped.items()}
            if batch.imgs is not None:
                measurer.add(batch.imgs.to(device), batch.indices)
                read += batch.indices
            bar.update(len(batch.indices) + len(batch.skipped))
    if not read:
        refuse_none_read(len(images.items), skipped, what)
    classes = None if images.classes is None else [images.classes[index] for index in read]
    found = measurer.finish([images.names[index] for index in read], classes)
    broken = np.flatnonzero(~np.isfinite(found.model.sum(1)))
    if len(broken):  # an interval of what is not finite would say that nothing stands out
        raise UserError(
            f'The predictions for {len(broken)} of {format_count(len(read), "image")} ({what}) are not finite, such as '
            f'that for {printable(found.names[broken[0]])}: the weights are broken, or the image is far from the '
            'training.'
        )
    return found


def _list_files(items: Sequence[Any]) -> frozenset[str]:
    return frozenset(os.path.realpath(item) for item in items if isinstance(item, Path))


def _look_up_classes(items: Sequence[Any], names: Sequence[str], labels: Path) -> list[str]:
    """Look up the class of each image."""
    found = read_classes(labels).look_up(items)
    unknown = [name for name, label in zip(names, found, strict=True) if label is None]
    if unknown:
        raise UserError(
            f'{printable(labels)} names no class of {len(unknown)} of {format_count(len(items), "image")}, such as '
            f'{printable(unknown[0])}: add them, or leave the labels out.'
        )
    return [label for label in found if label is not None]
