"""Detection of the file that cannot be read, in pipelines of MMDetection, MMSegmentation and other libraries."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import cv2
import numpy as np
import torch

from mae_toolkit.datasets.header_bytes import JPEG_SIGNATURE, PNG_SIGNATURE
from mae_toolkit.datasets.image_headers import read_image_header
from mae_toolkit.datasets.image_io import SUFFIXES, BrokenImageError, decode_image, open_image, read_image

IMAGE_SUFFIXES = tuple(suffix for suffix in SUFFIXES if suffix not in ('.npy', '.npz'))
# Formats of which OpenCV decodes every variant.
OPENCV_SIGNATURES = (JPEG_SIGNATURE, PNG_SIGNATURE, b'BM', b'RIFF', b'GIF8')


class BrokenMaskError(BrokenImageError):
    """A mask that cannot be decoded."""


class SampleFile(NamedTuple):
    """A file that a sample is made from.

    Attributes:
        path: The file.
        error: The exception to raise if it cannot be read.
    """

    path: str
    error: type[BrokenImageError]


class CheckedPipeline:
    """Pipeline of transforms that names the file if one of a sample's files cannot be read.

    OpenCV decodes a truncated JPEG to an image that is partly gray and reports nothing, so each JPEG is decoded once in
    a run, as small as its format permits, before its pixels are used. Other damage makes the pipeline fail; then the
    files of the sample are examined. If they are intact, the failure is that of the pipeline and is raised unchanged.

    Args:
        pipeline: Function that makes an item of a sample's annotations, such as MMEngine's ``Compose``.
        size: Number of samples in the dataset.
        allow_truncated: Use a truncated JPEG as far as it can be decoded, and keep its error in ``damaged``.

    Attributes:
        damaged: Errors of the files that were used in spite of being truncated.
    """

    def __init__(self, pipeline: Callable[[dict[str, Any]], Any], size: int, allow_truncated: bool = False) -> None:
        self.pipeline, self.allow_truncated = pipeline, allow_truncated
        self.damaged: list[BrokenImageError] = []
        self._is_checked = torch.zeros(size, dtype=torch.bool).share_memory_()  # shared by all workers

    def __call__(self, sample: dict[str, Any]) -> Any:
        """Make an item of a sample.

        Raises:
            BrokenImageError: If one of its files cannot be read.
        """
        files = list(find_files(sample))
        self._check_once(sample.get('sample_idx'), files)
        try:
            return self.pipeline(sample)
        except BrokenImageError:
            raise
        except Exception as error:  # libraries fail at broken files in many ways
            broken = next(filter(None, (explain_failure(file, error) for file in files)), None)
            if broken is None:
                raise
            raise broken from error

    def __getattr__(self, name: str) -> Any:
        """Look up attributes that only the pipeline has, such as its transforms."""
        if name.startswith('__') or 'pipeline' not in vars(self):
            raise AttributeError(name)
        return getattr(self.pipeline, name)

    def _check_once(self, index: int | None, files: list[SampleFile]) -> None:
        """Check the files of a sample against the limits and decode its JPEGs, once in a run."""
        has_index = isinstance(index, int) and 0 <= index < len(self._is_checked)
        if has_index and self._is_checked[index]:
            return
        for file in files:
            check_limits(file)
        try:
            for file in files:
                check_jpeg(file)
        except BrokenImageError as error:
            if not self.allow_truncated:
                raise
            self.damaged.append(error)
        if has_index:
            self._is_checked[index] = True


def find_files(sample: Mapping[str, Any]) -> Iterator[SampleFile]:
    """Yield the files that a sample names under keys such as ``img_path`` and ``seg_map_path``; URLs are left out."""
    for key, value in sample.items():
        if not isinstance(key, str) or 'path' not in key:
            continue
        error = BrokenMaskError if 'seg' in key or 'mask' in key else BrokenImageError
        for path in value if isinstance(value, list | tuple) else [value]:
            if isinstance(path, str | Path) and '://' not in str(path):
                yield SampleFile(str(path), error)


def check_limits(file: SampleFile) -> None:
    """Refuse a file whose header promises more pixels, or that has more bytes, than an image may have.

    Raises:
        BrokenImageError: With both numbers; or if it is a folder, or a pipe, which would be read forever.
    """
    if os.path.exists(file.path) and not os.path.isfile(file.path):
        raise file.error(file.path, 'it is not a regular file')
    header = read_image_header(Path(file.path))
    if header.is_too_large:
        raise file.error(file.path, header.reason)


def check_jpeg(file: SampleFile) -> None:
    """Decode a file if it is a JPEG; a file that cannot be opened is left to the pipeline.

    Raises:
        BrokenImageError: If it is damaged or truncated.
    """
    try:
        if not Path(file.path).is_file():  # reading a pipe would wait forever
            return
        with open(file.path, 'rb') as stream:
            if stream.read(len(JPEG_SIGNATURE)) != JPEG_SIGNATURE:
                return
    except OSError:
        return
    try:
        decode_image(open_image(file.path), (1, 1))
    except BrokenImageError as error:
        raise file.error(file.path, error.reason) from error


def explain_failure(file: SampleFile, error: Exception) -> BrokenImageError | None:
    """Return the error of a file that cannot be read, or None if the pipeline failed for another reason.

    Args:
        file: A file of the sample.
        error: What the pipeline raised.
    """
    path = Path(file.path)
    try:
        if path.exists() and not path.is_file():
            return file.error(path, 'it is not a regular file')
        data = path.read_bytes()
    except OSError as reason:  # a path on another machine is no file here, and fails otherwise
        return file.error(path, reason.strerror or str(reason)) if isinstance(error, OSError) else None
    if not data:
        return file.error(path, 'the file is empty')
    if path.suffix.lower() not in IMAGE_SUFFIXES:
        return None
    try:
        read_image(path)
    except BrokenImageError as reason:
        return file.error(path, reason.reason)
    if str(error) == f'failed to load image: {file.path}':  # what MMCV raises if its decoder returned None
        return file.error(path, "MMCV's image reader cannot decode it")
    if data.startswith(OPENCV_SIGNATURES) and cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_UNCHANGED) is None:
        return file.error(path, 'OpenCV cannot decode it')
    return None
