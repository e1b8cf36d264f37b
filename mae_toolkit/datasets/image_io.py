"""Images from files, in the type in which the file holds them."""

import io
from pathlib import Path

import cv2
import numpy as np
import simplejpeg
import tifffile
from PIL import Image, ImageOps, UnidentifiedImageError

SUFFIXES = ('.jpg', '.jpeg', '.jpe', '.jfif', '.png', '.tif', '.tiff', '.webp', '.bmp', '.ppm', '.pgm', '.npy', '.npz')
# What files begin with; names lie (ImageNet has a PNG named .JPEG).
JPEG = b'\xff\xd8\xff'
PNG = b'\x89PNG\r\n\x1a\n'
TIFF = (b'II*\0', b'MM\0*', b'II+\0', b'MM\0+')
ARRAY = (b'\x93NUMPY', b'PK\3\4', b'PK\5\6')
PILLOW = ('JPEG', 'PNG', 'WEBP', 'BMP', 'PPM', 'GIF', 'TIFF')  # no format of which a decoder starts other programs
ORIENTATION = 274  # the EXIF and TIFF tag
EXIF = (b'Exif\0', b'eXIf')  # what announces it in a JPEG, and in a PNG
REDUCTIONS = (8, 4, 2)  # libjpeg-turbo lacks fast code for those between: 7/8 takes longer than the whole image
CUT_OFF = ('premature end', 'huffman')  # in messages of libjpeg: part of the picture is missing

Image.MAX_IMAGE_PIXELS = None  # training images are the user's own, and many are larger than Pillow's limit


class BrokenImage(Exception):
    """An image that cannot be decoded.

    Attributes:
        path (str): The file.
        reason (str): What its decoder said.
    """

    def __init__(self, path, reason):
        super().__init__(str(path), reason)
        self.path, self.reason = str(path), reason

    def __str__(self):
        """File and reason."""
        return f'{self.path}: {self.reason}'


class ImageFile:
    """An image whose size is known before it is decoded.

    Attributes:
        path (Path): The file.
        size (tuple[int, int]): Height and width as the image is looked at, after its EXIF orientation.
    """

    def __init__(self, path, size):
        self.path, self.size = path, size

    def decode(self, min_size=(1 << 30, 1 << 30)):
        """The image (H, W, C) in the file's own type: uint8, uint16 or float32.

        Args:
            min_size (tuple[int, int]): A JPEG may come reduced by 2, 4 or 8 as long as it is not smaller than this.
        """
        raise NotImplementedError


class JpegFile(ImageFile):
    """A JPEG, decoded by libjpeg-turbo, at a fraction of its size where that is enough."""

    def __init__(self, path, data):
        self._data = data
        height, width, self._space, _ = simplejpeg.decode_jpeg_header(self._data, strict=False)
        self._orientation = _exif_orientation(self._data)
        super().__init__(path, (width, height) if self._orientation >= 5 else (height, width))

    def decode(self, min_size=(1 << 30, 1 << 30)):
        """The image (H, W, C) uint8; see :meth:`ImageFile.decode`."""
        if self._space in ('CMYK', 'YCCK'):
            return _from_pillow(self._data)
        size, least = (self.size[::-1], min_size[::-1]) if self._orientation >= 5 else (self.size, min_size)
        height, width = _reduced(size, least)
        kind = 'GRAY' if self._space == 'Gray' else 'RGB'
        try:
            # Its faster, coarser colours would gain a few percent and change pixels by up to 46 levels.
            image = simplejpeg.decode_jpeg(self._data, kind, min_height=height, min_width=width)
        except ValueError as error:  # Pillow forgives stray bytes, but also that a file ends early
            if any(words in str(error).lower() for words in CUT_OFF):
                raise
            return _from_pillow(self._data)
        return orient(image, self._orientation)


class WholeFile(ImageFile):
    """Any other image, decoded at once."""

    def __init__(self, path, image):
        self._image = image
        super().__init__(path, image.shape[:2])

    def decode(self, min_size=(1 << 30, 1 << 30)):
        """The image (H, W, C) as it is."""
        return self._image


def open_image(path):
    """Open an image file.

    Raises:
        BrokenImage: If it is missing, empty or cannot be decoded.
    """
    path = Path(path)
    return _unless_broken(path, lambda: _opened(path, _bytes_of(path)))


def decode(file, min_size=(1 << 30, 1 << 30)):
    """Decode an opened image; see :meth:`ImageFile.decode`.

    Raises:
        BrokenImage: If its content is damaged or cut off.
    """
    return _unless_broken(file.path, lambda: file.decode(min_size))


def read_image(path):
    """The image (H, W, C) of a file in its own type: uint8, uint16 or float32.

    JPEG, PNG, WebP, BMP, PNM, TIFF (any number of channels, 16 bits, floats) and NumPy arrays (H, W) or (H, W, C).

    Raises:
        BrokenImage: If it is missing or cannot be decoded.
    """
    return decode(open_image(path))


def orient(image, orientation):
    """Turn an image (H, W, C) as its EXIF orientation, 1 to 8, asks."""
    if orientation in (5, 6, 7, 8):
        image = image.swapaxes(0, 1)
    rows = slice(None, None, -1) if orientation in (3, 4, 7, 8) else slice(None)
    columns = slice(None, None, -1) if orientation in (2, 3, 6, 7) else slice(None)
    return image[rows, columns]


def _unless_broken(path, function):
    try:
        return function()
    except (MemoryError, KeyboardInterrupt):
        raise
    except Exception as error:  # a damaged file can make a decoder raise anything
        text = str(error).strip() or type(error).__name__
        raise BrokenImage(path, text.splitlines()[0]) from error


def _bytes_of(path):
    if path.exists() and not path.is_file():  # reading a pipe would wait for ever
        raise ValueError('it is no regular file')
    return path.read_bytes()


def _opened(path, data):
    if not data:
        raise ValueError('the file is empty')
    if data.startswith(JPEG):
        try:
            return JpegFile(path, data)
        except (ValueError, KeyError):  # some layouts of colour only Pillow knows
            return WholeFile(path, _from_pillow(data))
    if data.startswith(TIFF):
        return WholeFile(path, _from_tiff(data))
    if data.startswith(ARRAY):
        return WholeFile(path, _from_array(data))
    # Of 16 bits, with more than grey (types 2, 4, 6)
    if data.startswith(PNG) and data[24:25] == b'\x10' and data[25:26] in (b'\2', b'\4', b'\6'):
        return WholeFile(path, _from_deep_png(data))
    return WholeFile(path, _from_pillow(data))


def _reduced(size, least):
    """Height and width after the strongest reduction that leaves at least ``least``."""
    for by in REDUCTIONS:
        height, width = -(-size[0] // by), -(-size[1] // by)
        if height >= least[0] and width >= least[1]:
            return height, width
    return size


def _from_pillow(data):
    try:
        picture = ImageOps.exif_transpose(Image.open(io.BytesIO(data), formats=PILLOW))
    except UnidentifiedImageError:
        raise ValueError('its content is of no image format that is known') from None
    mode = picture.mode
    if mode == 'I':  # holds 16 bits in 32
        return _plain(np.array(picture).astype(np.uint16))
    if mode in ('P', 'PA'):
        picture = picture.convert('RGBA' if 'transparency' in picture.info else 'RGB')
    elif mode == '1':
        picture = picture.convert('L')
    elif mode in ('CMYK', 'YCbCr', 'LAB', 'HSV', 'RGBX', 'RGBa'):
        picture = picture.convert('RGB')
    return _plain(np.array(picture))  # a copy: Pillow's own memory may not be written to, and torch warns of that


def _from_deep_png(data):
    """Colour PNG of 16 bits, which Pillow would cut to 8."""
    image = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_UNCHANGED)
    if image is None:
        raise ValueError('the PNG cannot be decoded')
    image = np.ascontiguousarray(image[..., [2, 1, 0, 3][: image.shape[-1]]])
    return orient(image, _exif_orientation(data))


def _from_tiff(data):
    with tifffile.TiffFile(io.BytesIO(data)) as file:
        if not file.series:
            raise ValueError('the TIFF holds no image, or is truncated')
        series = file.series[0]
        for page in series.pages:  # a strip that is cut off may still decode, to a part of the picture
            if max(map(sum, zip(page.dataoffsets, page.databytecounts, strict=True))) > len(data):
                raise ValueError('the file is truncated')
        page = series.keyframe
        if _colours_need_pillow(page):
            return _from_pillow(data)
        image, axes = series.asarray(), series.axes
        tag = page.tags.get(ORIENTATION)
        palette = page.colormap
    if 'Y' not in axes or 'X' not in axes:
        raise ValueError(f'the TIFF has the axes {axes}, no rows and columns')
    image = np.moveaxis(image, (axes.index('Y'), axes.index('X')), (0, 1))
    image = image.reshape(*image.shape[:2], -1)
    if palette is not None and image.shape[2] == 1:
        image = (palette[:, image[..., 0]] >> 8).astype(np.uint8).transpose(1, 2, 0)
    if page.photometric == tifffile.PHOTOMETRIC.MINISWHITE and image.dtype.kind in 'bu':
        image = ~image if image.dtype.kind == 'b' else (1 << page.bitspersample) - 1 - image
    return orient(_plain(image), int(tag.value) if tag is not None else 1)


def _colours_need_pillow(page):
    """Whether a TIFF's bytes are inks, or light and colour, which tifffile leaves as they are."""
    if page.photometric == tifffile.PHOTOMETRIC.SEPARATED:  # with other inks, or deeper: channels like any others
        return page.samplesperpixel == 4 and page.bitspersample == 8
    return page.photometric == tifffile.PHOTOMETRIC.YCBCR and page.compression != tifffile.COMPRESSION.JPEG


def _from_array(data):
    image = np.load(io.BytesIO(data), allow_pickle=False)
    if not isinstance(image, np.ndarray):
        if not image.files:
            raise ValueError('the archive holds no array')
        image = image[image.files[0]]
    if image.ndim not in (2, 3):
        raise ValueError(f'an image is an array (H, W) or (H, W, C), not of shape {image.shape}')
    return _plain(image)


def _plain(image):
    """Any array (H, W) or (H, W, C) as uint8, uint16 or float32 (H, W, C)."""
    image = image if image.ndim == 3 else image[..., None]
    if 0 in image.shape:
        raise ValueError(f'the image is empty: {image.shape}')
    if image.dtype == bool:
        return image.astype(np.uint8) * 255
    if image.dtype.kind not in 'uif':
        raise ValueError(f'numbers of type {image.dtype} are no image')
    kept = image.dtype.newbyteorder('=')
    return image.astype(kept if kept in (np.uint8, np.uint16, np.float32) else np.float32, copy=False)


def _exif_orientation(data):
    """Orientation, 1 to 8, of the bytes of a JPEG or PNG; Pillow is asked only where there is any EXIF."""
    if not any(mark in data[: 1 << 16] for mark in EXIF):
        return 1
    try:
        value = Image.open(io.BytesIO(data)).getexif().get(ORIENTATION, 1)
    except (OSError, ValueError, SyntaxError):
        return 1
    return value if value in range(1, 9) else 1
