"""Images without labels."""

from itertools import zip_longest
from pathlib import Path

import numpy as np
import torch
from torch.utils.data import Dataset

from mae_toolkit.datasets.image_files import list_images
from mae_toolkit.datasets.image_io import BrokenImage, decode, open_image
from mae_toolkit.datasets.image_limits import MAX_BYTES, MAX_PIXELS, ImageLimits, ImageTooLarge, is_out_of_memory
from mae_toolkit.datasets.thin_images import check_target, crop_comes_first, resize_and_crop
from mae_toolkit.errors import UserError
from mae_toolkit.registry import DATASETS, TRANSFORMS


@DATASETS.register_module()
class ImageDataset(Dataset):
    """The images of a folder tree, a list, or the layouts of COCO and ImageNet, in the type of their files.

    An item depends on the seed, the epoch and the index alone: not on workers, processes or a resumption.

    Args:
        data_root (str): The folder.
        pipeline (list[dict]): Configs of transforms.
        ann_file (str | None), layout (str | None), split (str | None): See :func:`list_images`.
        channels (int): Channels of the images; gray becomes color and back, an alpha channel is dropped.
        hold_out (int | None): Leave out every n-th image, the first included, for validation; -n takes these alone.
        repeat (int): How often an epoch goes over the images, with other random numbers each time.
        seed (int): Of the random numbers.
        max_tries (int): Images tried in place of one that is broken.
        max_pixels (int): Pixels of the largest image that is decoded, by what its header says; a larger one is broken.
        max_bytes (int): Bytes of the largest file, and of the largest image once it is decoded.

    Raises:
        UserError: If there are no images.
    """

    def __init__(
        self,
        data_root,
        pipeline=(),
        ann_file=None,
        layout=None,
        split=None,
        channels=3,
        hold_out=None,
        repeat=1,
        seed=0,
        max_tries=20,
        max_pixels=MAX_PIXELS,
        max_bytes=MAX_BYTES,
    ):
        if not isinstance(data_root, str | Path):
            raise UserError(f'data_root={data_root!r} is no path: write it as text.')
        check_count('repeat', repeat, 1, 'how often an epoch goes over the images')
        check_count('channels', channels, 1, 'how many channels the images get')
        check_count('max_tries', max_tries, 0, 'how many images are tried in place of a broken one')
        check_count('seed', seed, 0, 'the seed of the augmentation')
        self.root, self.channels, self.repeat = Path(data_root), channels, repeat
        self.seed, self.max_tries = seed, max_tries
        self.limits = ImageLimits(max_pixels, max_bytes)
        names = self._list(data_root, ann_file, layout, split)
        self.names = PathList(held_out(names, hold_out))
        self.transforms = [TRANSFORMS.build(t) if isinstance(t, dict) else t for t in pipeline]

    def __len__(self):
        """Images of an epoch."""
        return len(self.names) * self.repeat

    def __getitem__(self, key):
        """One image.

        Args:
            key (tuple[int, int] | int): Epoch and index, or an index of epoch 0.

        Returns:
            dict: ``img`` (C, H, W) uint8, uint16 or float32; ``name``; ``broken``, a list of (name, reason) of the
            images that could not be read before this one.

        Raises:
            UserError: If no image can be read, or one has channels that do not fit.
        """
        epoch, index = key if isinstance(key, tuple) else (0, key)
        if not 0 <= index < len(self):  # else a plain loop over the dataset would never end
            raise IndexError(f'index {index} of {len(self)} images')
        rng = np.random.default_rng([self.seed, epoch, index])
        broken = []
        for attempt in range(min(self.max_tries + 1, len(self.names))):
            place = (index + attempt) % len(self.names)
            name = self.names[place]
            try:
                image = self._load(name, rng)
            except BrokenImage as error:
                broken.append((name, error.reason))
                continue
            img = torch.from_numpy(np.ascontiguousarray(image.transpose(2, 0, 1)))  # (C, H, W)
            return {'img': img, 'name': name, 'broken': broken} | self._about(place)
        raise UserError(
            f'{len(broken)} images in a row could not be read, from {broken[0][0]} ({broken[0][1]}) to '
            f'{broken[-1][0]}: is {self.root} the right folder?'
        )

    def read(self, name):
        """The whole image (H, W, C) of a name, with the dataset's channels."""
        file = open_image(self.root / name, self.limits)
        return to_channels(decode(file), self.channels, name, file.size)

    def _list(self, data_root, ann_file, layout, split):
        """Names of the images."""
        return list_images(data_root, ann_file, layout, split)

    def _about(self, place):
        """What a subclass knows of the image at a place among the names; part of the item."""
        return {}

    def _load(self, name, rng):
        return apply_pipeline(open_image(self.root / name, self.limits), self.transforms, self.channels, name, rng)


class PathList:
    """Many strings in two arrays: a list of them would be copied into every worker process, name by name."""

    def __init__(self, names):
        encoded = [name.encode('utf-8', 'surrogateescape') for name in names]
        self._bytes = np.frombuffer(b''.join(encoded), np.uint8)
        self._ends = np.cumsum([len(name) for name in encoded])

    def __len__(self):
        """Number of strings."""
        return len(self._ends)

    def __getitem__(self, index):
        """One string."""
        start = self._ends[index - 1] if index else 0
        return self._bytes[start : self._ends[index]].tobytes().decode('utf-8', 'surrogateescape')


def apply_pipeline(file, transforms, channels, name, rng):
    """An image (H, W, C) as a pipeline makes it.

    Args:
        file (ImageFile): The image, opened.
        transforms (list[Transform]): The pipeline.
        channels (int): As of :class:`ImageDataset`.
        name (str): Of the image, for errors.
        rng (Generator): Random numbers.

    Raises:
        BrokenImage: If it cannot be decoded, or memory does not suffice for what the pipeline makes of it.
        UserError: If its channels do not fit.
    """
    try:
        return _apply(file, list(transforms), channels, name, rng)
    except ImageTooLarge as error:
        raise BrokenImage(name, str(error)) from error
    except (MemoryError, RuntimeError) as error:
        if not is_out_of_memory(error):
            raise
        reason = f'there is not enough memory to prepare its {file.size[0]:,} x {file.size[1]:,} pixels'
        raise BrokenImage(name, reason) from error


def _apply(file, transforms, channels, name, rng):
    """Decode an image and run the steps of a pipeline; a resize and the crop after it are one step of a thin image."""
    if not transforms:
        return to_channels(decode(file), channels, name, file.size)
    image, done = None, False
    for step, following in zip_longest(transforms, transforms[1:]):
        if done:
            done = False
            continue
        size = file.size if image is None else image.shape[:2]
        if crop_comes_first(step, following, size):
            result, done = resize_and_crop(decode(file) if image is None else image, step, following, rng), True
        else:
            check_target(step, size, file.limits)
            result = step.load(file, rng) if image is None else step(image, rng)
        image = to_channels(result, channels, name, file.size) if image is None else result
    return image


def to_channels(image, channels, name, size=None):
    """Give an image (H, W, C) another number of channels: gray repeated, color averaged to gray, alpha dropped.

    Args:
        image (ndarray): The image, or a part of it.
        channels (int): How many it gets.
        name (str): Name of the image, for errors.
        size (tuple[int, int] | None): Height and width of the whole image, by which (C, H, W) is recognized.

    Raises:
        UserError: For any other difference.
    """
    have = image.shape[2]
    if have == channels:
        return image
    if have in (2, 4) and channels in (1, 3):  # the last is alpha
        return to_channels(image[..., :-1], channels, name, size)
    if have == 1 and channels == 3:
        return np.repeat(image, 3, axis=2)
    if have == 3 and channels == 1:
        gray = image @ np.array([0.299, 0.587, 0.114], np.float32)  # ITU-R BT.601
        gray = gray if image.dtype == np.float32 else gray.round()
        return gray.astype(image.dtype)[..., None]
    if size is not None and size[0] in {1, 2, 3, 4, channels} and have > 4:
        raise UserError(
            f'{name} has {have} channels, but the dataset expects channels={channels}: its shape '
            f'({size[0]}, {size[1]}, {have}) is read as {size[0]} rows, {size[1]} columns and {have} channels; if it '
            f'is meant as (C, H, W), {size[0]} channels of {size[1]} rows, save it as (H, W, C).'
        )
    raise UserError(
        f'{name} has {have} channels, but the dataset expects channels={channels}: set channels={have} there, '
        f'in_chans={have} in the encoder, and {have} values of mean and std.'
    )


def check_count(name, value, least, meaning):
    """Refuse an argument that is no whole number, or too small a one, under its name."""
    if isinstance(value, bool) or not isinstance(value, int | np.integer) or value < least:
        raise UserError(f'{name}={value!r} is {meaning}: a whole number, {least} or more.')


def held_out(names, every):
    """Leave every n-th of the names out, the first included; or take these alone, for -n.

    Raises:
        UserError: If ``every`` is no such number, or leaves nothing.
    """
    if every is None:
        return names
    if isinstance(every, bool) or not isinstance(every, int | np.integer) or every == 0:
        raise UserError(
            f'hold_out={every!r} is no distance between images: use None, 10 to leave out every tenth, or -10 to take '
            'these alone.'
        )
    kept = [name for i, name in enumerate(names) if (i % abs(every) == 0) == (every < 0)]
    if not kept:
        raise UserError(f'hold_out={every} leaves none of {len(names)} images: use another number or more images.')
    return kept
