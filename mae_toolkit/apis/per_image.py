"""Process many images so that a failing one costs only itself, with a JSON record that grows as they are done."""

import errno
import json
import time
import traceback
from collections.abc import Callable, Sequence
from io import FileIO
from pathlib import Path
from typing import Any

from tqdm import tqdm

from mae_toolkit.datasets import BrokenImageError, ImageLimits
from mae_toolkit.datasets.any_image import ImageLike, as_image_file
from mae_toolkit.datasets.image_io import ImageFile
from mae_toolkit.datasets.image_limits import ImageTooLargeError, is_out_of_memory
from mae_toolkit.errors import UserError
from mae_toolkit.files import atomic_write
from mae_toolkit.printing import printable

MIN_SIDE = 32  # pixels: an error of a library on a narrower image is the image's fault
LONG_END = 1 << 16  # bytes: a longer list of skipped images is not written with every image
PAUSE = 1.0  # seconds between two writes of a long list


class GrowingRecord:
    """JSON file about many images that is whole after each image, even if the process is killed.

    The file is created with the first image. Each further image is written over the end of the file, together with a
    new end, so that the cost of an image does not grow with their number. Names of files that are not UTF-8 are escaped
    as ``json`` and ``os.fsencode`` accept them. Use it as a context manager::

        with GrowingRecord('record.json', {'task': 'detection'}) as record:
            record.add({'image': 'a.jpg', 'objects': []})
            record.skip('b.jpg', 'it is empty (0 bytes)')

    Args:
        path: The file.
        header: Values that come before the images; at least one.

    Attributes:
        images: Entries of the images that were done.
        skipped: ``image`` and ``reason`` of the others.
    """

    def __init__(self, path: str | Path, header: dict[str, Any]) -> None:
        self.path, self._header = Path(path), header
        self.images: list[dict[str, Any]] = []
        self.skipped: list[dict[str, Any]] = []
        self._lines: list[str] = []  # the skipped images as text
        self._file: FileIO | None = None
        self._place = self._written = 0  # where the list of images ends, and the file
        self._pending, self._last = b'', -PAUSE

    def __enter__(self) -> 'GrowingRecord':
        """Return the record; the file is created with the first image."""
        return self

    def __exit__(self, *error: object) -> None:
        """Write what is left, whether or not the block has failed."""
        self.close()

    def add(self, entry: dict[str, Any]) -> None:
        """Add an image that was done.

        Args:
            entry: What to write about it.

        Raises:
            ValueError: If the entry cannot be written as JSON.
            OSError: If the file cannot be written; what it held before is kept.
        """
        text = _encode(_dump(entry))
        if self._file is None:
            self._create(text)
        else:
            self._pending += b',\n  ' + text
            self._write(may_wait=True)
        self.images.append(entry)

    def skip(self, image: str | Path, reason: str) -> None:
        """Add an image that could not be done.

        Args:
            image: The image.
            reason: Why it was skipped.
        """
        entry = {'image': str(image), 'reason': reason}
        self.skipped.append(entry)
        self._lines.append(_dump(entry))
        if self._file is not None:
            self._write(may_wait=True)

    def close(self) -> None:
        """Write what has not been written yet, and close the file."""
        if self._file is None:
            return
        try:
            self._write()
        finally:
            self._file.close()
            self._file = None

    def to_dict(self) -> dict[str, Any]:
        """Return what the file holds."""
        return self._header | {'images': self.images, 'skipped': self.skipped}

    def _create(self, first: bytes) -> None:
        header = ',\n '.join(f'{_dump(name)}: {_dump(value)}' for name, value in self._header.items())
        start = _encode(f'{{\n {header},\n "images": [\n  ') + first
        end = self._make_end()
        atomic_write(self.path, start + end)
        self._file = open(self.path, 'r+b', buffering=0)  # noqa: SIM115 - it stays open until close()
        self._place, self._written = len(start), len(start) + len(end)

    def _make_end(self) -> bytes:
        return _encode(f'\n ],\n "skipped": [{", ".join(self._lines)}]\n}}\n')

    def _write(self, may_wait: bool = False) -> None:
        """Write the pending images and a new end; with many skipped images, not more often than once a second."""
        assert self._file is not None
        if may_wait and self._written - self._place > LONG_END and time.monotonic() - self._last < PAUSE:
            return
        end = self._make_end()
        self._file.seek(self._place)
        before = self._file.read()
        try:
            _write_all(self._file, self._pending + end, self._place)
        except OSError:  # the disk is full: back to what was there, whose room is taken already
            _write_all(self._file, before, self._place)
            self._file.truncate()
            self._pending = b''
            raise
        self._place += len(self._pending)
        self._written = self._place + len(end)
        self._pending, self._last = b'', time.monotonic()


def run_over_images(
    images: Sequence[ImageLike],
    work: Callable[[int, ImageFile], dict[str, Any]],
    record: GrowingRecord,
    limits: ImageLimits,
    names: Sequence[str | Path] | None = None,
) -> dict[str, Any]:
    """Call a function on each of many images, and record what it returns.

    An image is skipped with a reason if it cannot be read, is too large, needs more memory than there is, or if the
    function fails on it. If no image succeeds, the images are not to blame, and the failure is raised.

    Args:
        images: Files, arrays or pictures of Pillow.
        work: Function of the number of an image and the opened file; returns the entry of the record.
        record: Gets an entry or a reason for each image.
        limits: Largest image that is decoded.
        names: What the images are called in the record; by their paths if None.

    Returns:
        What the record holds.

    Raises:
        UserError: If no image could be done because of what the images are.
        OSError: If results cannot be written.
        Exception: The first unexpected error, if no image could be done.
    """
    if not images:
        raise UserError('There are no images to work on.')
    unexpected = None
    with record:
        for number, image in enumerate(tqdm(images, unit='image')):
            file, name = None, str(image) if names is None else names[number]
            try:
                file = as_image_file(image, limits)
                record.add(work(number, file))
            except (BrokenImageError, UserError, ImageTooLargeError) as error:
                record.skip(name, error.reason if isinstance(error, BrokenImageError) else str(error))
            except Exception as error:
                if _is_failed_write(error):
                    raise
                record.skip(name, _describe_error(error, file))
                if unexpected is None and not _is_fault_of_image(error, file):
                    unexpected = error
                _clear_frames(error)
    if record.images:
        return record.to_dict()
    if unexpected is not None:
        raise unexpected
    first = record.skipped[0]
    where = f'{first["image"]} ({first["reason"]})'
    if len(images) == 1:
        raise UserError(f'The only image could not be read: {where}.')
    raise UserError(f'None of the {len(images)} images could be read, from {where} on.')


def report_skipped(record: dict[str, Any]) -> list[str]:
    """Return a line with name and reason for each skipped image of a record.

    Args:
        record: What :meth:`GrowingRecord.to_dict` returns.
    """
    return [f'skipped {printable(one["image"])}: {printable(one["reason"])}' for one in record['skipped']]


def is_record(path: str | Path, first_key: str) -> bool:
    """Return whether a file was written by :class:`GrowingRecord`; links are not followed.

    Args:
        path: The file.
        first_key: First key of the record's header.
    """
    path = Path(path)
    if path.is_symlink() or not path.is_file():
        return False
    start = f'{{\n "{first_key}": '.encode()
    with open(path, 'rb') as file:
        return file.read(len(start)) == start


def _describe_error(error: Exception, file: ImageFile | None) -> str:
    """Describe an unexpected error in one sentence, with the place in the code that raised it."""
    size = f' for its {file.size[0]:,} x {file.size[1]:,} pixels' if file else ''
    text = f'{type(error).__name__}: {" ".join(str(error).split()) or "no reason given"}'
    if is_out_of_memory(error):
        return f'there is not enough memory{size} ({text})'
    frame = traceback.extract_tb(error.__traceback__)[-1]
    place = f'{Path(frame.filename).name}, line {frame.lineno}'
    return f'{text}; raised{size} in {place}'


def _is_fault_of_image(error: Exception, file: ImageFile | None) -> bool:
    """Return whether an image explains an error: it needs too much memory, or a library refuses so small an image."""
    return is_out_of_memory(error) or (file is not None and min(file.size) < MIN_SIDE)


def _is_failed_write(error: Exception) -> bool:
    """Return whether the system refused to write; what cannot be read is a :class:`BrokenImageError`."""
    return isinstance(error, OSError) and error.errno not in (None, errno.ENOMEM)


def _clear_frames(error: BaseException | None) -> None:
    """Release the image and what was computed from it, which the frames of a kept error hold in memory."""
    while error is not None:
        traceback.clear_frames(error.__traceback__)
        error = error.__cause__ or error.__context__


def _dump(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False, allow_nan=False)


def _encode(text: str) -> bytes:
    return text.encode('utf-8', 'backslashreplace')  # \udce9, as JSON writes such a character, too


def _write_all(file: FileIO, content: bytes, place: int) -> None:
    file.seek(place)
    while content:
        content = content[file.write(content) :]
