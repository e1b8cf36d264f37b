"""TIFFs: any number of channels, any type, any of the usual colors."""

import numpy as np
import pytest
import tifffile
from PIL import Image

from mae_toolkit.datasets import BrokenImageError, read_image


@pytest.fixture
def picture():
    """A picture (40, 60, 3) without symmetry, of mixed colors."""
    y, x = np.mgrid[:40, :60]
    return np.stack([3 * x + y, 40 + 5 * y, 255 - 4 * x], axis=-1).astype(np.uint8)


@pytest.mark.parametrize('dtype', [np.uint8, np.uint16, np.float32])
@pytest.mark.parametrize('planes', ['contig', 'separate'])
def test_tiff_of_five_channels(tmp_path, dtype, planes):
    want = (np.random.default_rng(0).random((12, 10, 5)) * 250).astype(dtype)
    data = want if planes == 'contig' else want.transpose(2, 0, 1)
    tifffile.imwrite(tmp_path / 'a.tif', data, photometric='minisblack', planarconfig=planes)
    image = read_image(tmp_path / 'a.tif')
    assert image.dtype == dtype
    np.testing.assert_array_equal(image, want)


def test_tiff_stack_becomes_channels(tmp_path):
    want = np.random.default_rng(0).integers(0, 999, (4, 12, 10)).astype('>u2')
    tifffile.imwrite(tmp_path / 'a.tif', want, photometric='minisblack', byteorder='>')
    np.testing.assert_array_equal(read_image(tmp_path / 'a.tif'), want.transpose(1, 2, 0))


def test_a_tiff_whose_strip_is_cut_off(tmp_path):
    pytest.importorskip('imagecodecs')  # else no JPEG within a TIFF can be read
    image = np.random.default_rng(0).integers(0, 256, (200, 160, 3)).astype(np.uint8)
    tifffile.imwrite(tmp_path / 'whole.tif', image, photometric='rgb', compression='jpeg')
    assert read_image(tmp_path / 'whole.tif').shape == image.shape
    whole = (tmp_path / 'whole.tif').read_bytes()
    (tmp_path / 'cut.tif').write_bytes(whole[: len(whole) // 2])
    with pytest.raises(BrokenImageError, match='the file is truncated'):  # its decoder would give a part of the picture
        read_image(tmp_path / 'cut.tif')


@pytest.mark.parametrize('mode', ['RGB', 'RGBA', 'L', 'LA', '1', 'P', 'CMYK', 'YCbCr'])
@pytest.mark.parametrize('orientation', [1, 6])
def test_colors_equal_pillow(tmp_path, picture, mode, orientation):
    path, source = tmp_path / 'a.tif', Image.fromarray(picture).convert(mode)
    source.save(path, tiffinfo={274: orientation})
    want = np.asarray(source.convert({'P': 'RGB', '1': 'L', 'CMYK': 'RGB', 'YCbCr': 'RGB'}.get(mode, mode)))
    want = np.rot90(want, -1) if orientation == 6 else want  # 6: the top of the picture is stored at the left
    image = read_image(path)
    assert image.flags.writeable
    np.testing.assert_array_equal(image, want.reshape(*want.shape[:2], -1))


def test_ycbcr_that_is_planar_or_deflated(tmp_path, picture):
    """Pillow cannot read the first before 13; the second is converted by libtiff, which rounds otherwise."""
    source = Image.fromarray(picture).convert('YCbCr')
    tifffile.imwrite(
        tmp_path / 'planar.tif', np.asarray(source).transpose(2, 0, 1), photometric='ycbcr', planarconfig=2
    )
    source.save(tmp_path / 'deflated.tif', compression='tiff_adobe_deflate')
    want = np.asarray(source.convert('RGB'))
    np.testing.assert_array_equal(read_image(tmp_path / 'planar.tif'), want)
    np.testing.assert_allclose(read_image(tmp_path / 'deflated.tif'), want, rtol=0, atol=1)


@pytest.mark.parametrize('dtype, top', [(bool, 1), (np.uint8, 255), (np.uint16, 65535)])
def test_where_white_is_zero(tmp_path, picture, dtype, top):
    image = picture[..., :1] > 90 if dtype is bool else picture[..., :1].astype(dtype) * (top // 255)
    tifffile.imwrite(tmp_path / 'a.tif', ~image if dtype is bool else top - image, photometric='miniswhite')
    np.testing.assert_array_equal(
        read_image(tmp_path / 'a.tif'), image.astype(np.uint8) * 255 if dtype is bool else image
    )


def test_four_deep_inks_are_channels(tmp_path):
    want = np.random.default_rng(0).integers(0, 65536, (12, 10, 4)).astype(np.uint16)
    tifffile.imwrite(tmp_path / 'a.tif', want, photometric='separated')
    np.testing.assert_array_equal(read_image(tmp_path / 'a.tif'), want)
