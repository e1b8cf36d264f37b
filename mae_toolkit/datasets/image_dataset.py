"""Images without labels."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from mae_toolkit.datasets.image_files import list_images
from mae_toolkit.datasets.image_io import ImageFile, open_image
from mae_toolkit.datasets.image_limits import MAX_BYTES, MAX_PIXELS
from mae_toolkit.datasets.item_arguments import apply_hold_out
from mae_toolkit.datasets.path_list import PathList
from mae_toolkit.datasets.pipeline_dataset import PipelineDataset
from mae_toolkit.datasets.transforms import Transform
from mae_toolkit.errors import UserError
from mae_toolkit.registry import DATASETS


@DATASETS.register_module()
class ImageDataset(PipelineDataset):
    """Images of a folder tree, a list, or the layouts of COCO and ImageNet, in the dtype of their files.

    An item depends on the seed, the epoch and the index alone: not on workers, processes or a resumption.

    Args:
        data_root: Folder of the images.
        pipeline: Transforms or their configs, in order.
        ann_file: List of images or annotation file; see :func:`list_images`.
        layout: Layout of the files; see :func:`list_images`.
        split: Folder of the images within ``data_root``; see :func:`list_images`.
        channels: Number of channels of the images. Gray is repeated to color, color is averaged to gray, and an alpha
            channel is dropped.
        hold_out: Leave out every n-th image for validation, the first one included; -n takes only those. For example,
            10 in training and -10 in validation.
        repeat: Number of passes over the images in an epoch, each with other random numbers.
        seed: Seed of the random numbers.
        max_tries: Maximum number of images that are tried in place of a broken one.
        max_pixels: Pixels of the largest image that is decoded; a larger one, by its header, counts as broken.
        max_bytes: Bytes of the largest file, and of the largest decoded image.

    Attributes:
        names: Paths of the images relative to ``data_root``.

    Raises:
        UserError: If an argument is out of range, or there are no images.
    """

    def __init__(
        self,
        data_root: str | Path,
        pipeline: Sequence[dict | Transform] = (),
        ann_file: str | Path | None = None,
        layout: str | None = None,
        split: str | Path | None = None,
        channels: int = 3,
        hold_out: int | None = None,
        repeat: int = 1,
        seed: int = 0,
        max_tries: int = 20,
        max_pixels: int = MAX_PIXELS,
        max_bytes: int = MAX_BYTES,
    ) -> None:
        if not isinstance(data_root, str | Path):
            raise UserError(f'data_root={data_root!r} is not a path: write it as a string.')
        super().__init__(pipeline, channels, repeat, seed, max_tries, max_pixels, max_bytes)
        self.root = Path(data_root)
        names = self._list_images(data_root, ann_file, layout, split)
        self.names = PathList(apply_hold_out(names, hold_out))

    def count_images(self) -> int:
        """Return the number of images, each counted once."""
        return len(self.names)

    def name_image(self, position: int) -> str:
        """Return the path of an image relative to ``data_root``."""
        return self.names[position]

    def open(self, position: int) -> ImageFile:
        """Open an image; see :meth:`PipelineDataset.open`."""
        return open_image(self.root / self.names[position], self.limits)

    def describe_place(self) -> str:
        """Return where the images are, for errors."""
        return f'{self.root} the right folder'

    def read(self, name: str) -> np.ndarray:
        """Read a whole image (H, W, C) by its name, with the dataset's number of channels and without transforms."""
        return self._decode(open_image(self.root / name, self.limits), name)

    def _list_images(
        self, data_root: str | Path, ann_file: str | Path | None, layout: str | None, split: str | Path | None
    ) -> list[str]:
        """List the names of the images."""
        return list_images(data_root, ann_file, layout, split)
