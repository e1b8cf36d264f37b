"""Reconstruct the hidden parts of images of any kind: arrays for computing, pictures to look at, and files."""

from __future__ import annotations

import copy
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from mmengine.config import Config
from PIL import Image
from tqdm import tqdm

from mae_toolkit.apis.encoders import load_autoencoder
from mae_toolkit.apis.per_image import GrowingRecord, run_over_images
from mae_toolkit.apis.predict import prepare_folder
from mae_toolkit.apis.reconstructed_image import (
    PreparedImage,
    ReconstructedImage,
    choose_masking,
    prepare_image,
    reconstruct_batch,
)
from mae_toolkit.datasets import BrokenImageError, ImageLimits, Resize
from mae_toolkit.datasets.image_io import ImageFile
from mae_toolkit.errors import UserError
from mae_toolkit.evaluation.embeddings.reading import Images, list_items, refuse_none_read
from mae_toolkit.models import ImagePreprocessor, MaskedAutoencoder
from mae_toolkit.models.maskings import Masking
from mae_toolkit.outputs import write_picture
from mae_toolkit.planning.device import find_device
from mae_toolkit.visualization import make_picture_grid
from mae_toolkit.visualization.reconstruction import explain_nothing_shown, find_shown_objective

RECORD = 'reconstructions.json'
TOOL = 'reconstruct'
MOST_PIXELS = 1 << 20  # of a batch: a large image is alone in it, and takes no more memory than it must


class Reconstructor:
    """Hide parts of images, and let a masked autoencoder reconstruct them, in batches and with a progress bar.

    Example::

        reconstructor = load_reconstructor('runs/photos', ratio=0.6)
        for found in reconstructor('photos/'):  # a folder, a file, an array, a picture of Pillow, or several
            found.masked, found.prediction, found.paste, found.error  # arrays
        reconstructor.draw('photos/1.jpg')  # a picture of Pillow
        reconstructor.write('photos/', 'pictures')

    Made by :func:`load_reconstructor` of a run, or of a model as here.

    Args:
        model: The model, in evaluation mode, on the device on which it is to run.
        ratio: Share of the cells that is hidden, between 0 and 1; as in the training if None.
        masking: Which cells are hidden: the name of a class such as ``'BlockMasking'``, or its config; as in the
            training if None.
        seed: Seed of the masks. The mask of an image follows from it and from the position of the image alone.
        short_side: Pixels to which the shorter side of each image is resized; its own size if None.
        batch_size: Images per batch at most. Those of a batch have one size, and a million pixels together at most.
        limits: Largest image that is decoded.

    Attributes:
        skipped: Reasons by name, of the images that the last call could not read.

    Raises:
        UserError: If the model predicts no picture, or an argument is out of its range.
    """

    def __init__(
        self,
        model: MaskedAutoencoder,
        *,
        ratio: float | None = None,
        masking: str | Mapping[str, Any] | Masking | None = None,
        seed: int = 0,
        short_side: int | None = None,
        batch_size: int = 16,
        limits: ImageLimits | None = None,
    ) -> None:
        if find_shown_objective(model) is None:
            raise UserError(explain_nothing_shown(model))
        if not isinstance(model.data_preprocessor, ImagePreprocessor):
            raise UserError('The model has no data_preprocessor with mean and std, and nobody knows its units.')
        for name, value in (('short_side', short_side), ('batch_size', batch_size)):
            if value is not None and value < 1:
                raise UserError(f'{name}={value} must be 1 or more.')
        self.model, self.seed, self.limits = model, seed, limits or ImageLimits()
        self.masking = choose_masking(model, ratio, masking)
        # A method of one's own may let the images of a batch look at each other, as MixMIM does.
        self.batch_size = batch_size if type(model) is MaskedAutoencoder else 1
        self.skipped: dict[str, str] = {}
        self._resize = Resize(short_side) if short_side else None
        self._units = copy.deepcopy(model.data_preprocessor).cpu()

    def __call__(self, images: Images, show_progress: bool = True) -> list[ReconstructedImage]:
        """Reconstruct images.

        Args:
            images: A folder, a file, a pattern, an array (H, W) or (H, W, C) in the units of the files of the training,
                a picture of Pillow, or several of them.
            show_progress: Show a bar where it takes more than a second.

        Returns:
            What was made of each image that could be read; the others are in :attr:`skipped`.

        Raises:
            UserError: If there are no images, none can be read, or one has other channels than the model takes or is
                too small for a mask.
        """
        found = list(self.iterate(images, show_progress))
        if not found:
            refuse_none_read(len(self.skipped), self.skipped)
        return found

    def iterate(self, images: Images, show_progress: bool = True) -> Iterator[ReconstructedImage]:
        """Reconstruct images one after the other, for more than fit into memory; see :meth:`__call__`."""
        items, names = list_items(images)
        self.skipped = {}
        with tqdm(total=len(items), desc='reconstructing', unit='image', delay=1, disable=not show_progress) as bar:
            for index, outcome in self._run(items, names):
                if isinstance(outcome, ReconstructedImage):
                    yield outcome
                elif isinstance(outcome, BrokenImageError):
                    self.skipped[names[index]] = outcome.reason
                else:
                    raise outcome
                bar.update()

    def draw(
        self, images: Images | ReconstructedImage | Sequence[ReconstructedImage], side: int | None = None
    ) -> Image.Image:
        """Draw images, what the model saw of them, what it made of that, and how far it was off.

        Args:
            images: The images, or what a call has returned for them; a row of the picture for each.
            side: Pixels of the longer side of each picture; its own size if None.
        """
        if isinstance(images, ReconstructedImage):
            images = [images]
        if isinstance(images, Sequence) and images and all(isinstance(one, ReconstructedImage) for one in images):
            found: Any = images
        else:
            found = self(images)  # type: ignore[arg-type]
        rows = [one.columns() for one in found]
        return make_picture_grid([list(row.values()) for row in rows], list(rows[0]), side)

    def write(self, images: Images, out: str | Path, side: int | None = None, force: bool = False) -> dict[str, Any]:
        """Reconstruct images, and write a picture for each and ``reconstructions.json`` into a folder.

        The JSON file is whole at any time, so that what was done is kept when the run is interrupted or killed.

        Args:
            images: The images; of other channels than the model takes, they are skipped.
            out: The folder; created if needed.
            side: Pixels of the longer side of each picture; its own size if None.
            force: Replace files in the folder that were not written by this method.

        Returns:
            What the JSON file holds: ``seed``; ``images``, for each its path, height, width and the name of its
            picture; ``skipped``, the path and reason of each that could not be reconstructed.

        Raises:
            UserError: If the folder holds some of the images or files of others, or none of the images could be
                reconstructed because of what they are.
            Exception: What failed first, if nothing could be reconstructed for another reason.
        """
        out, (items, names) = Path(out), list_items(images)
        paths = [item if isinstance(item, Path) else Path(name) for item, name in zip(items, names, strict=True)]
        written = prepare_folder(out, paths, RECORD, 'seed', TOOL, force=force)
        outcomes = self._run(items, names)

        def work(number: int, file: ImageFile) -> dict[str, Any]:
            found = next(outcome for index, outcome in outcomes if index == number)
            if isinstance(found, Exception):
                raise found
            write_picture(out / f'{written[number]}.png', self.draw(found, side), TOOL)
            height, width = file.size
            return {'image': str(paths[number]), 'height': height, 'width': width, 'picture': f'{written[number]}.png'}

        record = GrowingRecord(out / RECORD, {'seed': self.seed})
        return run_over_images(items, work, record, self.limits, paths)

    def _run(self, items: Sequence[Any], names: Sequence[str]) -> Iterator[tuple[int, ReconstructedImage | Exception]]:
        """Reconstruct images in batches; yield for each its index and the result, or why there is none."""
        batch: list[PreparedImage] = []
        for index, item in enumerate(items):
            try:
                prepared = prepare_image(item, index, names[index], self.model, self._resize, self.limits)
            except Exception as error:
                yield from self._run_batch(batch)
                batch = []
                yield index, error
                continue
            if batch and not batch[0].goes_with(prepared):
                yield from self._run_batch(batch)
                batch = []
            batch.append(prepared)
            if len(batch) >= self.batch_size or (len(batch) + 1) * prepared.pixels > MOST_PIXELS:
                yield from self._run_batch(batch)
                batch = []
        yield from self._run_batch(batch)

    def _run_batch(self, batch: Sequence[PreparedImage]) -> Iterator[tuple[int, ReconstructedImage | Exception]]:
        """Reconstruct a batch; if that fails, each of its images alone, as one of them may be to blame."""
        if not batch:
            return
        found: list[tuple[int, ReconstructedImage | Exception]] | None = None
        try:
            found = reconstruct_batch(self.model, batch, self.seed, self.masking, self._units)
        except Exception as error:
            if len(batch) == 1:
                found = [(batch[0].index, error)]
        if found is None:  # nothing refers to the error, which would hold on to the memory that was not enough
            for one in batch:
                yield from self._run_batch([one])
        else:
            yield from found


def load_reconstructor(
    source: str | Path,
    config: str | Path | Config | None = None,
    *,
    ratio: float | None = None,
    masking: str | Mapping[str, Any] | Masking | None = None,
    seed: int = 0,
    short_side: int | None = None,
    batch_size: int = 16,
    limits: ImageLimits | None = None,
    device: str | None = None,
) -> Reconstructor:
    """Load a masked autoencoder with its decoder, to see what it makes of images.

    Example::

        reconstructor = load_reconstructor('runs/photos', short_side=224)
        reconstructor.draw(['a.jpg', 'b.jpg'])

    Args:
        source: Folder of the run of a pretraining, a checkpoint, or what ``import_weights.py`` wrote.
        config: Config of the pretraining, if the source does not hold it.
        ratio: Share of the cells that is hidden, between 0 and 1; as in the training if None.
        masking: Which cells are hidden: the name of a class such as ``'BlockMasking'``, or its config; as in the
            training if None.
        seed: Seed of the masks.
        short_side: Pixels to which the shorter side of each image is resized; its own size if None.
        batch_size: Images per batch at most.
        limits: Largest image that is decoded.
        device: Device; a GPU if there is one.

    Returns:
        The reconstructor.

    Raises:
        UserError: If there is no such source, it has no decoder, or it predicts no picture.
    """
    model, _ = load_autoencoder(source, device or find_device().type, config)
    options: dict[str, Any] = dict(short_side=short_side, batch_size=batch_size, limits=limits)
    return Reconstructor(model, ratio=ratio, masking=masking, seed=seed, **options)


def reconstruct_images(
    model: MaskedAutoencoder,
    images: Sequence[Path],
    out: str | Path,
    short_side: int | None = None,
    side: int | None = None,
    seed: int = 0,
    limits: ImageLimits | None = None,
    force: bool = False,
) -> dict[str, Any]:
    """Reconstruct images with a model, and write pictures; see :meth:`Reconstructor.write`.

    Args:
        model: The model, in evaluation mode.
        images: The files, as :func:`~mae_toolkit.datasets.image_files.find_images` lists them.
        out: The folder; created if needed.
        short_side: Pixels to which the shorter side of each image is resized; its own size if None.
        side: Pixels of the longer side of each picture; its own size if None.
        seed: Seed of the masks.
        limits: Largest image that is decoded.
        force: Replace files in the folder that were not written by this function.

    Returns:
        What the JSON file holds.

    Raises:
        UserError: If the model predicts no picture, the folder holds some of the images or files of others, or none of
            the images could be reconstructed because of what they are.
        Exception: What failed first, if nothing could be reconstructed for another reason.
    """
    return Reconstructor(model, seed=seed, short_side=short_side, limits=limits).write(images, out, side, force)
