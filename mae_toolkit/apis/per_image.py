"""Work on many images, of which one that fails costs itself alone; a record of all, which grows as they are done."""

import errno
import json
import time
import traceback
from collections.abc import Callable
from pathlib import Path

from tqdm import tqdm

from mae_toolkit.datasets import BrokenImageError, ImageLimits, open_image
from mae_toolkit.datasets.image_io import ImageFile
from mae_toolkit.datasets.image_limits import ImageTooLargeError, is_out_of_memory
from mae_toolkit.errors import UserError
from mae_toolkit.files import atomic_write
from mae_toolkit.printing import printable

FEW = 32  # pixels: what a library says of an image that is thinner is the image's fault
LONG = 1 << 16  # bytes of the list of skipped images from which on it is not written with every image
PAUSE = 1.0  # seconds between two writes then


class GrowingRecord:
    """A JSON file of what was done of many images, whole and readable after each, also when the process is killed.

    The file begins with the first image that was done. Each further one is written over the end of the file together
    with a new end, so that the work does not grow with the number of images. Names of files that are no UTF-8 are
    escaped as ``json`` and ``os.fsencode`` take them.

    Args:
        path: The file.
        about: What stands before the images; one value at least.

    Attributes:
        images: Entries of the images that were done.
        skipped: ``image`` and ``reason`` of the others.
    """

    def __init__(self, path: str | Path, about: dict):
        self.path, self._about = Path(path), about
        self.images: list[dict] = []
        self.skipped: list[dict] = []
        self._lines: list[str] = []  # the skipped images as text
        self._file = None
        self._place = self._written = 0  # where the list of images ends, and the file
        self._pending, self._last = b'', -PAUSE

    def __enter__(self) -> 'GrowingRecord':
        """Begin."""
        return self

    def __exit__(self, *error: object) -> None:
        """Write what is left, whatever has happened."""
        self.close()

    def add(self, entry: dict) -> None:
        """Add an image that was done.

        Raises:
            ValueError: If the entry cannot be written as JSON.
            OSError: If the file cannot be written; what it held before is kept.
        """
        text = _encode(_dump(entry))
        if self._file is None:
            self._begin(text)
        else:
            self._pending += b',\n  ' + text
            self._write(waits=True)
        self.images.append(entry)

    def skip(self, image: str | Path, reason: str) -> None:
        """Add an image that could not be done, and why."""
        entry = {'image': str(image), 'reason': reason}
        self.skipped.append(entry)
        self._lines.append(_dump(entry))
        if self._file is not None:
            self._write(waits=True)

    def close(self) -> None:
        """Write what waits, and close the file."""
        if self._file is None:
            return
        try:
            self._write()
        finally:
            self._file.close()
            self._file = None

    def to_dict(self) -> dict:
        """Return what the file holds."""
        return self._about | {'images': self.images, 'skipped': self.skipped}

    def _begin(self, text):
        about = ',\n '.join(f'{_dump(name)}: {_dump(value)}' for name, value in self._about.items())
        start = _encode(f'{{\n {about},\n "images": [\n  ') + text
        end = self._end()
        atomic_write(self.path, start + end)
        self._file = open(self.path, 'r+b', buffering=0)  # noqa: SIM115 - it stays open until close()
        self._place, self._written = len(start), len(start) + len(end)

    def _end(self):
        return _encode(f'\n ],\n "skipped": [{", ".join(self._lines)}]\n}}\n')

    def _write(self, waits=False):
        if waits and self._written - self._place > LONG and time.monotonic() - self._last < PAUSE:
            return
        end = self._end()
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
    images: list[str | Path], work: Callable[[int, ImageFile], dict], record: GrowingRecord, limits: ImageLimits
) -> dict:
    """Do some work on each of many images.

    An image that cannot be read or does not fit, for which memory does not suffice, or on which anything else fails is
    skipped with its reason. Where no image succeeds, the failure is not the images': it is raised.

    Args:
        images: Files.
        work: Takes the number of an image and the opened file; returns its entry of the record.
        record: Gets an entry, or a reason, for each.
        limits: The largest image that is decoded.

    Returns:
        What the record holds.

    Raises:
        UserError: If none could be done because of what it is.
        OSError: If results cannot be written.
        Exception: The first that came unexpectedly, if none could be done.
    """
    if not images:
        raise UserError('There are no images to work on.')
    unexpected = None
    with record:
        for number, path in enumerate(tqdm(images, unit='image')):
            file = None
            try:
                file = open_image(path, limits)
                record.add(work(number, file))
            except (BrokenImageError, UserError, ImageTooLargeError) as error:
                record.skip(path, error.reason if isinstance(error, BrokenImageError) else str(error))
            except Exception as error:
                if _is_of_writing(error):
                    raise
                record.skip(path, _reason(error, file))
                if unexpected is None and not _is_of_image(error, file):
                    unexpected = error
                _forget_frames(error)
    if record.images:
        return record.to_dict()
    if unexpected is not None:
        raise unexpected
    first = record.skipped[0]
    where = f'{first["image"]} ({first["reason"]})'
    if len(images) == 1:
        raise UserError(f'The only image could not be read: {where}.')
    raise UserError(f'None of the {len(images)} images could be read, from {where} on.')


def report_skipped(record: dict) -> list[str]:
    """Name each skipped image of a record, and why, in one line each."""
    return [f'skipped {printable(one["image"])}: {printable(one["reason"])}' for one in record['skipped']]


def is_record(path: str | Path, name: str) -> bool:
    """Whether a file, which is no link, begins as :class:`GrowingRecord` writes it, with a name of what it is about."""
    path = Path(path)
    if path.is_symlink() or not path.is_file():
        return False
    start = f'{{\n "{name}": '.encode()
    with open(path, 'rb') as file:
        return file.read(len(start)) == start


def _reason(error, file):
    """A sentence for an error that nobody foresaw, with the place in the code that raised it."""
    size = f' for its {file.size[0]:,} x {file.size[1]:,} pixels' if file else ''
    text = f'{type(error).__name__}: {" ".join(str(error).split()) or "no reason given"}'
    if is_out_of_memory(error):
        return f'there is not enough memory{size} ({text})'
    frame = traceback.extract_tb(error.__traceback__)[-1]
    place = f'{Path(frame.filename).name}, line {frame.lineno}'
    return f'{text}; raised{size} in {place}'


def _is_of_image(error, file):
    """Whether an error follows from the image: memory, or a library's refusal of one that is very small."""
    return is_out_of_memory(error) or (file is not None and min(file.size) < FEW)


def _is_of_writing(error):
    """Whether the system refused to write; what cannot be read is a :class:`BrokenImageError`."""
    return isinstance(error, OSError) and error.errno not in (None, errno.ENOMEM)


def _forget_frames(error):
    """Let go of the image and what was made of it, which the frames of a kept error would hold in memory."""
    while error is not None:
        traceback.clear_frames(error.__traceback__)
        error = error.__cause__ or error.__context__


def _dump(value):
    return json.dumps(value, ensure_ascii=False, allow_nan=False)


def _encode(text):
    return text.encode('utf-8', 'backslashreplace')  # \udce9, as JSON writes such a character, too


def _write_all(file, content, place):
    file.seek(place)
    while content:
        content = content[file.write(content) :]
