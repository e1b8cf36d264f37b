"""How images are prepared for an encoder: read from a config of ours or of timm, and written for timm."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from math import floor
from typing import Any

import numpy as np
from mmengine.config import Config

from mae_toolkit.checkpoints.hub_cache import find_timm_settings
from mae_toolkit.datasets import CenterCrop, Resize, Transform
from mae_toolkit.datasets.image_io import ImageFile, decode_image
from mae_toolkit.datasets.transforms import parse_size
from mae_toolkit.errors import UserError

BYTE, WORD = 255, 65535
CROP_FRACTION = 0.875  # timm's default: pixels of the crop, per pixel of the shorter side before it


class ExactResize(Resize):
    """Resize a whole image as torchvision and timm do, which cut off the fraction of the longer side.

    :class:`Resize` rounds it, and decodes a JPEG at a lower resolution, which is faster: in training that does no harm,
    but here an image would have other features from a file than from an array.
    """

    def load(self, file: ImageFile, rng: np.random.Generator) -> np.ndarray:
        """Decode an image at its full size, and resize it."""
        return self(decode_image(file), rng)

    def output_size(self, height: int, width: int) -> tuple[int, int]:
        """Return height and width of the result for an image of a height and width."""
        if not isinstance(self.size, int):
            return self.size
        shorter = min(height, width)
        return self.size * height // shorter, self.size * width // shorter


class RoundedCenterCrop(CenterCrop):
    """Crop of the center as torchvision cuts it: a half pixel is rounded to the even one."""

    def choose_corner(self, size: Sequence[int], rng: np.random.Generator) -> tuple[int, int]:
        """Choose top and left of the region."""
        top, left = (round((have - want) / 2) for have, want in zip(size, self.size, strict=True))
        return top, left


@dataclass(frozen=True)
class Preparation:
    """Sizes and normalization of the images that an encoder was trained on.

    Attributes:
        mean: Mean of each channel, in the units of the files (0 to 255 for bytes).
        std: Standard deviation of each channel, in the same units.
        size: Rows and columns of the images.
        short_side: Pixels to which the shorter side is resized before the center is cut out; None if images are resized
            to rows and columns, whatever their aspect ratio.
        interpolation: ``'bicubic'`` or ``'bilinear'``.
        dtype: Type of the numbers in the files; by default the one that mean and std suggest, None where they do not,
            as 0 and 1.
    """

    mean: tuple[float, ...]
    std: tuple[float, ...]
    size: tuple[int, int]
    short_side: int | None
    interpolation: str = 'bicubic'
    dtype: str | None = None

    def __post_init__(self) -> None:
        """Find the type of the files if it is not given."""
        top = max(*self.mean, *self.std)
        if self.dtype is None and top != 1:
            object.__setattr__(self, 'dtype', 'float32' if top < 1 else 'uint8' if top <= BYTE else 'uint16')

    @property
    def channels(self) -> int:
        """Return the number of channels of the images."""
        return len(self.mean)

    @property
    def largest_value(self) -> int:
        """Return the value of the files that timm calls 1: of bytes 255, of 16 bits 65535, of floats 1."""
        return {'uint8': BYTE, 'uint16': WORD}.get(self.dtype or '', 1)

    def transforms(self) -> list[Transform]:
        """Make the steps from an image to one of the right size, which are those of timm for :meth:`to_timm`.

        Center crops that are not square are the exception: for them timm does not resize by the shorter side.
        """
        if self.short_side is None:
            return [ExactResize(self.size, self.interpolation)]
        return [ExactResize(self.short_side, self.interpolation), RoundedCenterCrop(self.size)]

    def to_timm(self) -> dict[str, Any]:
        """Return the preparation as the data config of timm, whose images have values from 0 to 1."""
        crop = 1.0 if self.short_side is None else min(self.size) / self.short_side
        return dict(
            input_size=[self.channels, *self.size],
            interpolation=self.interpolation,
            crop_pct=floor(1e6 * crop) / 1e6,  # rounded up, timm would resize to one pixel less
            crop_mode='squash' if self.short_side is None else 'center',
            mean=[round(value / self.largest_value, 6) for value in self.mean],
            std=[round(value / self.largest_value, 6) for value in self.std],
        )

    def to_dict(self) -> dict[str, Any]:
        """Return plain values, from which :func:`read_plain` makes the preparation again."""
        return {key: list(value) if isinstance(value, tuple) else value for key, value in asdict(self).items()}


IMAGENET = Preparation((123.675, 116.28, 103.53), (58.395, 57.12, 57.375), (224, 224), 256)


def read_plain(values: Mapping[str, Any]) -> Preparation:
    """Make a preparation of the values that :meth:`Preparation.to_dict` returns."""
    tuples: dict[str, Any] = {key: tuple(value) if isinstance(value, list) else value for key, value in values.items()}
    return Preparation(**tuples)


def read_timm(config: Mapping[str, Any]) -> Preparation:
    """Read the data config of timm, whose images are bytes.

    Args:
        config: With ``input_size``, ``mean``, ``std`` and, if they are not timm's defaults, ``crop_pct``,
            ``crop_mode`` and ``interpolation``.
    """
    channels, *size = config['input_size']
    mean, std = (_repeat([BYTE * value for value in config[key]], channels) for key in ('mean', 'std'))
    crop = config.get('crop_pct') or CROP_FRACTION
    short_side = None if config.get('crop_mode') == 'squash' else floor(min(size) / crop)
    interpolation = 'bilinear' if config.get('interpolation') == 'bilinear' else 'bicubic'
    return Preparation(mean, std, (size[0], size[1]), short_side, interpolation, 'uint8')


def find_default_preparation(arch: str, tag: str = '') -> Preparation:
    """Find how images are prepared for weights that do not say it: by timm's name of them.

    Args:
        arch: The architecture.
        tag: The training, such as ``'mae'``; empty if it is not known.

    Returns:
        What timm says of the weights, else of its preferred ones of this architecture, else what is usual for ImageNet.
    """
    settings = find_timm_settings(arch, tag) or find_timm_settings(arch)
    return IMAGENET if settings is None else read_timm(settings.to_dict())


def read_config(cfg: Config, dtype: str | None = None) -> Preparation:
    """Read how a pretraining prepares the images on which it is validated, or else those on which it is trained.

    Args:
        cfg: The config.
        dtype: Type of the numbers in the files, if it is known.

    Raises:
        UserError: If the config does not say how images are normalized.
    """
    about = cfg.model.get('data_preprocessor') or {}
    if 'mean' not in about or 'std' not in about:
        raise UserError(
            'The config has no model.data_preprocessor with mean and std, so that nobody knows how images are '
            'normalized for this encoder: write them there.'
        )
    steps = [*_list_steps(cfg, 'val'), *_list_steps(cfg, 'train')]
    crops = [step for step in steps if 'Crop' in str(step.get('type')) and 'size' in step]
    resizes = [step for step in _list_steps(cfg, 'val') if step.get('type') == 'Resize' and 'size' in step]
    sizes = [step['size'] for step in (*crops, *resizes)]
    encoder = cfg.model.get('encoder') or cfg.model.get('backbone') or {}
    size = parse_size(sizes[0] if sizes else encoder.get('img_size') or 224)
    short_side: int | None = round(min(size) / CROP_FRACTION)
    if resizes:
        wanted = resizes[0]['size']
        short_side = wanted if isinstance(wanted, int) else None
    interpolation = next((step['interpolation'] for step in (*resizes, *crops) if 'interpolation' in step), 'bicubic')
    mean, std = (tuple(float(value) for value in about[key]) for key in ('mean', 'std'))
    return Preparation(mean, std, size, short_side, interpolation, dtype)


def _list_steps(cfg: Config, split: str) -> Iterator[Mapping[str, Any]]:
    """List the steps of the pipeline of a split, inside datasets that repeat or join others, too."""
    dataset = (cfg.get(f'{split}_dataloader') or {}).get('dataset') or {}
    while 'pipeline' not in dataset and 'dataset' in dataset:
        dataset = dataset['dataset']
    yield from (step for step in dataset.get('pipeline') or () if isinstance(step, dict))


def _repeat(values: Sequence[float], channels: int) -> tuple[float, ...]:
    """Repeat values for so many channels, as timm does where it has three and the images another number."""
    return tuple((list(values) * channels)[:channels])
