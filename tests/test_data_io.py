"""Images of every kind are read as they are, or refused with a reason."""

import io
import struct
import zlib

import cv2
import numpy as np
import pytest
import tifffile
from PIL import Image, ImageOps

from mae_toolkit.datasets import BrokenImageError, open_image, read_image
from mae_toolkit.datasets.image_io import ORIENTATION_TAG, decode_image


@pytest.fixture
def picture():
    """A real picture (120, 160, 3) without symmetry."""
    y, x = np.mgrid[:120, :160]
    image = np.stack([x + y // 2, 40 + y, 255 - x], axis=-1).astype(np.uint8)
    image[20:50, 30:50] = (250, 20, 20)
    return image


def encoded(image, kind, **options):
    buffer = io.BytesIO()
    (image if isinstance(image, Image.Image) else Image.fromarray(image)).save(buffer, kind, **options)
    return buffer.getvalue()


def written(folder, name, data):
    path = folder / name
    path.write_bytes(data)
    return path


def deep_png(image, color, exif=b''):
    """A PNG of 16 bits, by hand: (H, W, C) of color type 0 gray, 2 RGB, 4 gray and alpha, 6 RGBA."""
    height, width = image.shape[:2]
    rows = b''.join(b'\0' + row.astype('>u2').tobytes() for row in image)

    def chunk(kind, data):
        return struct.pack('>I', len(data)) + kind + data + struct.pack('>I', zlib.crc32(kind + data))

    header = struct.pack('>IIBBBBB', width, height, 16, color, 0, 0, 0)
    exif = chunk(b'eXIf', exif) if exif else b''
    return (
        b'\x89PNG\r\n\x1a\n' + chunk(b'IHDR', header) + exif + chunk(b'IDAT', zlib.compress(rows)) + chunk(b'IEND', b'')
    )


@pytest.mark.parametrize('options', [{}, {'progressive': True}, {'subsampling': 0}])
def test_jpeg_equals_pillow(tmp_path, picture, options):
    path = written(tmp_path, 'a.jpg', encoded(picture, 'JPEG', **options))
    np.testing.assert_array_equal(read_image(path), np.asarray(Image.open(path)))


@pytest.mark.parametrize('mode, channels', [('L', 1), ('CMYK', 3)])
def test_other_jpegs(tmp_path, picture, mode, channels):
    path = written(tmp_path, 'a.JPEG', encoded(Image.fromarray(picture).convert(mode), 'JPEG', quality=95))
    image = read_image(path)
    want = np.asarray(Image.open(path).convert('RGB' if channels == 3 else 'L')).reshape(120, 160, channels)
    assert image.dtype == np.uint8
    np.testing.assert_array_equal(image, want)


@pytest.mark.parametrize('kind', ['PNG', 'BMP', 'PPM', 'WEBP', 'TIFF'])
def test_lossless_kinds(tmp_path, picture, kind):
    options = {'lossless': True} if kind == 'WEBP' else {}
    image = read_image(written(tmp_path, f'a b ü.{kind}', encoded(picture, kind, **options)))
    np.testing.assert_array_equal(image, picture)
    assert image.flags.writeable  # else torch warns, and writing to the tensor would be undefined


@pytest.mark.parametrize('mode, channels', [('L', 1), ('LA', 2), ('RGBA', 4), ('P', 3), ('1', 1)])
def test_modes_of_png(tmp_path, picture, mode, channels):
    source = Image.fromarray(picture).convert(mode)
    image = read_image(written(tmp_path, 'a.png', encoded(source, 'PNG')))
    want = {'P': 'RGB', '1': 'L'}.get(mode, mode)
    assert image.dtype == np.uint8
    np.testing.assert_array_equal(image, np.asarray(source.convert(want)).reshape(120, 160, channels))


def test_palette_with_transparency(tmp_path, picture):
    data = encoded(Image.fromarray(picture).convert('P'), 'PNG', transparency=3)
    assert read_image(written(tmp_path, 'a.png', data)).shape == (120, 160, 4)


@pytest.mark.parametrize('color, channels', [(0, 1), (2, 3), (6, 4)])
def test_png_of_16_bits(tmp_path, color, channels):
    want = np.random.default_rng(0).integers(0, 65536, (12, 10, channels)).astype(np.uint16)
    image = read_image(written(tmp_path, 'a.png', deep_png(want, color)))
    assert image.dtype == np.uint16
    np.testing.assert_array_equal(image, want)


@pytest.mark.parametrize('orientation', range(1, 9))
def test_png_of_16_bits_is_turned(tmp_path, orientation):
    exif = Image.Exif()
    exif[ORIENTATION_TAG] = orientation
    want = np.random.default_rng(0).integers(0, 256, (12, 10, 3)).astype(np.uint8)
    turned = ImageOps.exif_transpose(Image.open(io.BytesIO(encoded(want, 'PNG', exif=exif))))
    data = deep_png(want.astype(np.uint16) * 257, 2, exif.tobytes().removeprefix(b'Exif\0\0'))
    np.testing.assert_array_equal(read_image(written(tmp_path, 'a.png', data)), np.asarray(turned).astype(int) * 257)


def test_png_of_16_bits_gray_and_alpha(tmp_path):
    want = np.random.default_rng(0).integers(0, 65536, (12, 10, 2)).astype(np.uint16)
    image = read_image(written(tmp_path, 'a.png', deep_png(want, 4)))  # comes as color and alpha
    np.testing.assert_array_equal(image[..., 0], want[..., 0])
    np.testing.assert_array_equal(image[..., -1], want[..., 1])


@pytest.mark.parametrize('shape', [(1, 1), (1, 9), (9, 1), (1, 2000)])
def test_thin_images(tmp_path, shape):
    image = np.arange(np.prod(shape), dtype=np.uint16).reshape(shape)
    tifffile.imwrite(tmp_path / 'a.tif', image)
    Image.fromarray(image.astype(np.uint8)).save(tmp_path / 'a.jpg')
    for name in ('a.tif', 'a.jpg'):
        assert read_image(tmp_path / name).shape == (*shape, 1)


@pytest.mark.parametrize(
    'dtype, kept',
    [
        ('uint8', 'uint8'),
        ('uint16', 'uint16'),
        ('>u2', 'uint16'),
        ('float32', 'float32'),
        ('float64', 'float32'),
        ('int16', 'float32'),
        ('int32', 'float32'),
    ],
)
@pytest.mark.parametrize('shape', [(6, 5), (6, 5, 7)])
def test_arrays(tmp_path, dtype, kept, shape):
    array = np.arange(np.prod(shape)).reshape(shape).astype(dtype)
    np.save(tmp_path / 'a.npy', array)
    np.savez(tmp_path / 'b.npz', image=array)
    for name in ('a.npy', 'b.npz'):
        image = read_image(tmp_path / name)
        assert image.dtype == np.dtype(kept)
        np.testing.assert_array_equal(image, array.reshape(6, 5, -1))


def test_booleans_and_missing_numbers(tmp_path):
    np.save(tmp_path / 'a.npy', np.eye(4, dtype=bool))
    assert set(np.unique(read_image(tmp_path / 'a.npy'))) == {0, 255}
    np.save(tmp_path / 'b.npy', np.full((4, 4), np.nan, np.float32))
    assert np.isnan(read_image(tmp_path / 'b.npy')).all()  # the guard of the training loop names the image


def test_the_content_counts_not_the_name(tmp_path, picture):
    for name, kind in (('png.JPEG', 'PNG'), ('tiff.jpg', 'TIFF'), ('bmp.tif', 'BMP')):
        np.testing.assert_array_equal(read_image(written(tmp_path, name, encoded(picture, kind))), picture)
    assert open_image(written(tmp_path, 'jpeg.png', encoded(picture, 'JPEG'))).decode((30, 40)).shape == (30, 40, 3)


@pytest.mark.parametrize('orientation', range(1, 9))
@pytest.mark.parametrize('kind', ['JPEG', 'PNG', 'TIFF', 'WEBP'])
def test_orientation(tmp_path, picture, kind, orientation):
    exif = Image.Exif()
    exif[ORIENTATION_TAG] = orientation
    options = {'lossless': True} if kind == 'WEBP' else {}
    path = written(tmp_path, f'a.{kind}', encoded(picture, kind, exif=exif, **options))
    want = np.asarray(ImageOps.exif_transpose(Image.open(path)))
    assert want.shape[0] == (160 if orientation >= 5 else 120)
    assert open_image(path).size == want.shape[:2]
    np.testing.assert_array_equal(read_image(path), want)


@pytest.mark.parametrize('orientation', [1, 6])
def test_reduced_decoding(tmp_path, picture, orientation):
    exif = Image.Exif()
    exif[ORIENTATION_TAG] = orientation
    file = open_image(written(tmp_path, 'a.jpg', encoded(picture, 'JPEG', exif=exif, quality=95)))
    whole = file.decode().astype(float)
    height, width = file.size
    for by in (2, 4, 8):
        reduced = file.decode((height // by, width // by))
        assert reduced.shape == (height // by, width // by, 3)
        boxes = whole.reshape(height // by, by, width // by, by, 3).mean(axis=(1, 3))
        assert np.abs(reduced - boxes).mean() < 4


def test_only_fast_reductions_and_never_too_small(tmp_path, picture):
    file = open_image(written(tmp_path, 'a.jpg', encoded(picture, 'JPEG')))
    assert [file.decode((n, n)).shape[0] for n in (15, 16, 30, 31, 60, 61, 90, 120, 500)] == [
        15, 30, 30, 60, 60, 120, 120, 120, 120,
    ]  # fmt: skip
    assert file.decode((10, 100)).shape == (120, 160, 3)  # both sides count


def broken_files(picture):
    jpeg, png = encoded(picture, 'JPEG'), encoded(picture, 'PNG')
    noise = np.random.default_rng(0).integers(0, 256, (90, 70, 3)).astype(np.uint8)
    return {
        'half.jpg': jpeg[: len(jpeg) // 2],
        'last_bytes.jpg': jpeg[:-2],
        'header_only.jpg': jpeg[:200],
        'ends_early.jpg': jpeg[: len(jpeg) // 2] + b'\xff\xd9',  # a proper end, but half of the picture
        'progressive.jpg': encoded(noise, 'JPEG', progressive=True)[:-3000],
        'cmyk.jpg': encoded(Image.fromarray(noise).convert('CMYK'), 'JPEG')[:-3000],
        'half.png': png[: len(png) // 2],
        'deep.png': deep_png(noise.astype(np.uint16), 2)[:-9000],
        'half.bmp': encoded(picture, 'BMP')[:9999],
        'half.webp': encoded(noise, 'WEBP')[:-999],
        'half.tif': encoded(picture, 'TIFF')[:9999],
        'empty.jpg': b'',
        'empty.png': b'',
        'empty.npy': b'',
        'text.jpg': b'I am not a picture. ' * 9,
    }


@pytest.mark.parametrize('name', broken_files(np.zeros((120, 160, 3), np.uint8)))
def test_broken_files(tmp_path, picture, name):
    path = written(tmp_path, name, broken_files(picture)[name])
    with pytest.raises(BrokenImageError) as caught:
        read_image(path)
    assert caught.value.path == str(path)
    assert caught.value.reason and '\n' not in caught.value.reason and ' at 0x' not in caught.value.reason


def test_no_other_program_is_started(tmp_path, monkeypatch):
    monkeypatch.setattr('subprocess.Popen', lambda *args, **kwargs: pytest.fail('something was started'))
    script = b'%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n%%EndComments\nshowpage\n'  # Pillow asks ghostscript
    with pytest.raises(BrokenImageError, match='not of a known image format'):
        read_image(written(tmp_path, 'a.png', script))


def test_missing_file_and_folder(tmp_path):
    for path in (tmp_path / 'missing.jpg', tmp_path):
        with pytest.raises(BrokenImageError):
            read_image(path)


@pytest.mark.parametrize(
    'array', [np.ones(4), np.ones((0, 4)), np.ones((4, 4), complex), np.ones((2, 2, 2, 2))], ids=lambda a: str(a.shape)
)
def test_arrays_that_are_no_image(tmp_path, array):
    np.save(tmp_path / 'a.npy', array)
    with pytest.raises(BrokenImageError):
        read_image(tmp_path / 'a.npy')


class Bomb:
    """Leaves a trace when it is unpickled."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return open, (str(self.path), 'w')


def test_pickles_are_not_opened(tmp_path):
    np.save(tmp_path / 'a.npy', np.array([[Bomb(tmp_path / 'trace')]], dtype=object), allow_pickle=True)
    np.savez(tmp_path / 'b.npz', image=np.array([[Bomb(tmp_path / 'trace')]], dtype=object))
    for name in ('a.npy', 'b.npz'):
        with pytest.raises(BrokenImageError):
            read_image(tmp_path / name)
    assert not (tmp_path / 'trace').exists()


def test_stray_bytes_are_forgiven(tmp_path, picture):
    jpeg = encoded(picture, 'JPEG')
    want = read_image(written(tmp_path, 'a.jpg', jpeg))
    for name, data in (('after.jpg', jpeg + b'junk' * 9), ('before_end.jpg', jpeg[:-2] + b'junkjunk' + jpeg[-2:])):
        image = read_image(written(tmp_path, name, data))
        assert np.abs(image.astype(int) - want).mean() < 1


def test_odd_subsampling(tmp_path, picture):
    factor = cv2.IMWRITE_JPEG_SAMPLING_FACTOR_411
    _, data = cv2.imencode('.jpg', picture, [cv2.IMWRITE_JPEG_SAMPLING_FACTOR, factor])
    path = written(tmp_path, 'a.jpg', data.tobytes())
    np.testing.assert_array_equal(read_image(path), np.asarray(Image.open(path)))


def test_an_image_that_exhausts_memory_is_broken(tmp_path, picture):
    file = open_image(written(tmp_path, 'a.png', encoded(picture, 'PNG')))

    def fail(min_size):
        raise MemoryError

    file.decode = fail
    with pytest.raises(BrokenImageError, match='not enough memory'):
        decode_image(file)
