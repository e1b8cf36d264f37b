"""One method with the model that feeds it, and the images of all methods of a detector."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor
from torch.utils.data import DataLoader
from tqdm import tqdm

from mae_toolkit.datasets.image_io import ImageFile, decode_image
from mae_toolkit.errors import UserError
from mae_toolkit.evaluation.anomaly.methods import AnomalyMethod, build_method
from mae_toolkit.evaluation.anomaly.readers import Reader
from mae_toolkit.evaluation.anomaly.tiles import Place, Tiling
from mae_toolkit.evaluation.embeddings.reading import FEW, MOST_WORKERS, ReadItem, ReadItems


@dataclass
class Branch:
    """A method, and what it sees of images.

    Attributes:
        name: Name of the method.
        reader: Makes maps of images.
        transform: From an image to the tensor (C, H, W) that the model takes.
        settings: Arguments of the method.
        seed: Seed of the method.
        method: The method; a new one at first.
        offset: Mean of its scores on held-out normal images.
        scale: Their standard deviation.
    """

    name: str
    reader: Reader
    transform: Callable[[Any], Tensor]
    settings: Mapping[str, Any] = field(default_factory=dict)
    seed: int = 0
    offset: float = 0.0
    scale: float = 1.0
    method: AnomalyMethod = field(init=False)

    def __post_init__(self) -> None:
        """Build the method, which refuses wrong arguments."""
        self.renew()

    def renew(self) -> None:
        """Build the method anew, not fitted."""
        self.method = build_method(self.name, self.settings, self.seed)

    def read(self, imgs: Tensor, batch_size: int) -> Tensor:
        """Make maps (B, D, h, w) of prepared images (B, C, H, W), so many at once.

        Raises:
            UserError: If there are numbers in them that are not finite.
        """
        device = next(self.reader.model.parameters()).device
        maps = torch.cat([self.reader(part.to(device)) for part in imgs.split(batch_size)])
        if not maps.isfinite().all():
            raise UserError(
                f'What {self.name} is given of the images is not finite: check the weights of the encoder, and how '
                'images are normalized for it.'
            )
        return maps


@dataclass(frozen=True)
class PreparedImage:
    """An image as the branches of a detector see it.

    Attributes:
        index: Its position in the list that was asked for.
        size: Height and width in its file.
        places: Where its tiles lie; one at the origin if it is not cut.
        tensors: The tiles (T, C, H, W), for each branch.
    """

    index: int
    size: tuple[int, int]
    places: list[Place]
    tensors: list[Tensor]


@dataclass(frozen=True)
class Preparing:
    """The transform of an image for several branches; worker processes call it.

    Attributes:
        transforms: Those of the branches.
        tiling: How images are cut; None if they are not.
    """

    transforms: Sequence[Callable[[Any], Tensor]]
    tiling: Tiling | None

    def __call__(self, file: ImageFile) -> tuple[list[Place], list[Tensor]]:
        """Prepare an image: the places of its tiles, and the tiles (T, C, H, W) for each branch."""
        if self.tiling is None:
            return [(0, 0)], [transform(file)[None] for transform in self.transforms]
        image, side = decode_image(file), self.tiling.side
        try:
            places = self.tiling.place(*image.shape[:2])
        except UserError as error:
            raise UserError(f'{file.path}: {error}') from None
        tiles = [image[top : top + side, left : left + side] for top, left in places]
        return places, [torch.stack([transform(tile) for tile in tiles]) for transform in self.transforms]


def prepare_images(
    items: Sequence[Any],
    preparing: Preparing,
    batch_size: int,
    workers: int | None = None,
    progress: str | None = None,
    skip_misfits: bool = False,
) -> Iterator[tuple[list[PreparedImage], dict[int, str]]]:
    """Read images in the background, in batches.

    Args:
        items: Paths, arrays or pictures.
        preparing: What is done to each.
        batch_size: Images per batch.
        workers: Processes that read; 0 reads in this one, None chooses by the number of images and threads.
        progress: What a bar says, where it takes more than a second; None for no bar.
        skip_misfits: Also leave out images that do not fit, in place of refusing them.

    Yields:
        The images of a batch that could be read, and the reasons of the others by their index.

    Raises:
        UserError: If an image has other channels or units than the encoder takes, or is smaller than a tile.
    """
    if workers is None:
        workers = 0 if len(items) <= FEW else min(MOST_WORKERS, torch.get_num_threads())
    loader = DataLoader(ReadItems(items, preparing), batch_size, num_workers=workers, collate_fn=list)
    with tqdm(total=len(items), desc=progress, unit='image', delay=1, disable=progress is None) as bar:
        for loaded in loader:
            yield _sort(loaded, skip_misfits)
            bar.update(len(loaded))


def _sort(loaded: Sequence[ReadItem], skip_misfits: bool) -> tuple[list[PreparedImage], dict[int, str]]:
    """Tell the images that were read from those that could not."""
    failed = {}
    for item in loaded:
        if isinstance(item.content, UserError) and not skip_misfits:
            raise item.content
        if isinstance(item.content, str | UserError):
            failed[item.index] = str(item.content)
    read = [PreparedImage(item.index, item.size, *item.content) for item in loaded if item.index not in failed]
    return read, failed
