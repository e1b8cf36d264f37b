"""Transforms are functions of an image and random numbers, in the image's own type."""

import io

import numpy as np
import pytest
import torch
from PIL import Image
from scipy.stats import ks_2samp
from torchvision.transforms import RandomResizedCrop as Reference
from torchvision.transforms.v2 import functional as reference

from mae_toolkit.datasets import (
    CenterCrop,
    PadToMultiple,
    RandomCrop,
    RandomFlip,
    RandomResizedCrop,
    Resize,
    open_image,
)
from mae_toolkit.datasets.functional import resize
from mae_toolkit.errors import UserError
from mae_toolkit.registry import TRANSFORMS

ALL = [
    RandomResizedCrop((16, 24)),
    RandomResizedCrop(16, scale=(0.05, 0.3), interpolation='bilinear'),
    Resize(20),
    Resize((16, 24)),
    CenterCrop((16, 24)),
    CenterCrop((80, 24)),
    RandomCrop((16, 24)),
    RandomCrop((80, 90)),
    RandomFlip(0.5),
    RandomFlip(0.5, ['horizontal', 'vertical']),
    PadToMultiple(32),
]
SIZES = [(16, 24), (16, 16), (20, 25), (16, 24), (16, 24), (80, 24), (16, 24), (80, 90), (40, 50), (40, 50), (64, 64)]


def random_image(shape, dtype=np.uint8, seed=0):
    smooth = torch.rand(1, shape[2], 6, 6, generator=torch.manual_seed(seed))
    smooth = torch.nn.functional.interpolate(smooth, size=shape[:2], mode='bicubic').clamp(0, 1)
    top = {np.uint8: 255, np.uint16: 65535, np.float32: 1}[dtype]
    return (smooth[0].permute(1, 2, 0).numpy() * top).astype(dtype)


def rng(seed=0):
    return np.random.default_rng(seed)


@pytest.mark.parametrize('transform, size', zip(ALL, SIZES), ids=lambda t: type(t).__name__)
@pytest.mark.parametrize('channels', [1, 3, 5])
@pytest.mark.parametrize('dtype', [np.uint8, np.uint16, np.float32])
def test_type_size_and_randomness(transform, size, channels, dtype):
    image = random_image((40, 50, channels), dtype)
    before = image.copy()
    once, again = transform(image, rng(1)), transform(image, rng(1))
    assert once.dtype == dtype and once.shape == (*size, channels)
    np.testing.assert_array_equal(once, again)
    np.testing.assert_array_equal(image, before)
    state = np.random.get_state()[1].copy(), torch.get_rng_state()
    transform(image, rng(2))
    assert (np.random.get_state()[1] == state[0]).all() and torch.equal(torch.get_rng_state(), state[1])


@pytest.mark.parametrize('transform', [ALL[0], ALL[6], ALL[8], ALL[9]], ids=lambda t: type(t).__name__)
def test_random_transforms_differ(transform):
    image = random_image((40, 50, 3))
    assert len({transform(image, rng(seed)).tobytes() for seed in range(20)}) > 1


@pytest.mark.parametrize('mode', ['bilinear', 'bicubic'])
@pytest.mark.parametrize('size', [(16, 24), (30, 31), (90, 70)])
@pytest.mark.parametrize('shape', [(60, 50, 3), (61, 53, 1), (40, 44, 5)])
def test_bytes_are_resized_as_by_torchvision(mode, size, shape):
    image = np.random.default_rng(0).integers(0, 256, shape).astype(np.uint8)
    x = torch.from_numpy(image).permute(2, 0, 1).contiguous()
    want = reference.resize(x, size, interpolation=reference.InterpolationMode(mode), antialias=True)
    got = torch.from_numpy(resize(image, size, mode)).permute(2, 0, 1)
    assert (got.int() - want.int()).abs().max() <= 1


def test_sixteen_bits_are_rounded_and_kept_in_range():
    image = np.zeros((20, 20, 1), np.uint16)
    image[:10] = 65535  # bicubic overshoots at the step
    up = resize(image, (41, 41), 'bicubic')
    exact = resize(image.astype(np.float32), (41, 41), 'bicubic')
    assert exact.max() > 66000 and exact.min() < -500
    np.testing.assert_array_equal(up, exact.round().clip(0, 65535).astype(np.uint16))
    ramp = np.arange(400, dtype=np.float32).reshape(20, 20, 1)
    want = resize(ramp, (9, 9), 'bilinear')
    np.testing.assert_array_equal(resize(ramp.astype(np.uint16), (9, 9), 'bilinear'), want.round().astype(np.uint16))


def test_views_are_resized_like_copies():
    image = random_image((40, 50, 3))
    for view in (image[::-1], image[:, ::-1], image.swapaxes(0, 1)[:, ::-1], image[3:30, 5:44]):
        np.testing.assert_array_equal(resize(view, (16, 18), 'bicubic'), resize(view.copy(), (16, 18), 'bicubic'))
        np.testing.assert_array_equal(RandomFlip(1.0)(view, rng()), view[:, ::-1])


@pytest.mark.parametrize('shape', [(375, 500), (64, 64), (40, 400)])  # the last falls back to the middle at times
@pytest.mark.parametrize('scale, ratio', [((0.2, 1.0), (3 / 4, 4 / 3)), ((0.5, 0.9), (1.0, 2.0))])
def test_rectangles_are_distributed_as_in_torchvision(shape, scale, ratio):
    ours, source = RandomResizedCrop(224, scale, ratio), rng(0)
    mine = np.array([ours.sample_region(*shape, source) for _ in range(3000)])
    canvas = torch.empty(1, *shape)
    theirs = np.array([Reference.get_params(canvas, list(scale), list(ratio)) for _ in range(3000)])
    for a, b in zip(mine.T, theirs.T):
        assert ks_2samp(a, b).pvalue > 1e-4
    assert ks_2samp(mine[:, 2] * mine[:, 3], theirs[:, 2] * theirs[:, 3]).pvalue > 1e-4
    assert (mine[:, 0] >= 0).all() and (mine[:, 0] + mine[:, 2] <= shape[0]).all()
    assert (mine[:, 1] >= 0).all() and (mine[:, 1] + mine[:, 3] <= shape[1]).all()


@pytest.mark.parametrize('shape', [(1, 1), (1, 900), (900, 1), (2, 3)])
def test_rectangles_of_tiny_and_thin_images(shape):
    crop = RandomResizedCrop(8, scale=(0.01, 1.0))
    for seed in range(30):
        top, left, height, width = crop.sample_region(*shape, rng(seed))
        assert top >= 0 and left >= 0 and height >= 1 and width >= 1
        assert top + height <= shape[0] and left + width <= shape[1]
        assert crop(np.zeros((*shape, 2), np.uint8), rng(seed)).shape == (8, 8, 2)


class Spied:
    """An image file that remembers how large it was decoded."""

    def __init__(self, file):
        self.path, self.size, self.file = file.path, file.size, file

    def decode(self, *least):
        image = self.file.decode(*least)
        self.decoded = image.shape[:2]
        return image


@pytest.fixture(params=[1, 6])
def jpeg(request, tmp_path):
    """A large JPEG, upright and turned by its EXIF orientation."""
    exif = Image.Exif()
    exif[274] = request.param
    buffer = io.BytesIO()
    Image.fromarray(random_image((320, 480, 3))).save(buffer, 'JPEG', quality=95, exif=exif)
    (tmp_path / 'a.jpg').write_bytes(buffer.getvalue())
    return Spied(open_image(tmp_path / 'a.jpg'))


@pytest.mark.parametrize(
    'transform', [RandomResizedCrop((28, 40)), RandomResizedCrop(40, (0.5, 1.0), interpolation='bilinear'), Resize(40)]
)
def test_reduced_decoding_gives_nearly_the_same_picture(jpeg, transform):
    whole = jpeg.file.decode()
    reduced, differences = 0, []
    for seed in range(20):
        fast, exact = transform.load(jpeg, rng(seed)), transform(whole, rng(seed))
        assert fast.shape == exact.shape
        differences.append(np.abs(fast.astype(float) - exact).mean())
        reduced += jpeg.decoded != jpeg.size
    # The rectangle moves by up to half a pixel of the result; other rectangles would differ by 50 levels.
    assert np.mean(differences) < 5 and max(differences) < 12
    assert reduced > 10


def test_no_reduction_where_pixels_would_be_missing(jpeg):
    for transform in (
        RandomResizedCrop(320),
        Resize(200),
        CenterCrop(64),
        RandomCrop(64),
        RandomFlip(),
        PadToMultiple(32),
    ):
        transform.load(jpeg, rng())
        assert jpeg.decoded == jpeg.size
    crop = RandomResizedCrop(64)
    for seed in range(30):  # the rectangle as decoded is never smaller than the result
        height, width = crop.sample_region(*jpeg.size, rng(seed))[2:]
        crop.load(jpeg, rng(seed))
        factor = jpeg.decoded[0] / jpeg.size[0]
        assert min(height, width) * factor >= 64 - 1 or factor == 1


def test_flip_mirrors_with_its_probability():
    image = random_image((6, 7, 5))
    np.testing.assert_array_equal(RandomFlip(1.0)(image, rng()), image[:, ::-1])
    np.testing.assert_array_equal(RandomFlip(1.0, 'vertical')(image, rng()), image[::-1])
    np.testing.assert_array_equal(RandomFlip(0.0)(image, rng()), image)
    source = rng()
    flips = sum(not np.array_equal(RandomFlip(0.3)(image, source), image) for _ in range(1000))
    assert 240 < flips < 360


def test_crops_take_what_is_there():
    image = random_image((40, 50, 3))
    np.testing.assert_array_equal(CenterCrop((20, 30))(image, rng()), image[10:30, 10:40])
    windows = {image[i : i + 39, j : j + 48].tobytes() for i in range(2) for j in range(3)}
    assert {RandomCrop((39, 48))(image, rng(seed)).tobytes() for seed in range(100)} == windows


def test_small_images_are_mirrored_not_filled():
    row = np.arange(1, 5, dtype=np.uint8).reshape(1, 4, 1)
    np.testing.assert_array_equal(CenterCrop((1, 8))(row, rng())[0, :, 0], [2, 1, 1, 2, 3, 4, 4, 3])
    np.testing.assert_array_equal(PadToMultiple(6)(row, rng())[0, :, 0], [1, 2, 3, 4, 4, 3])
    assert PadToMultiple(64)(row, rng()).shape == (64, 64, 1)
    assert PadToMultiple(4)(random_image((40, 8, 3)), rng()).shape == (40, 8, 3)


def test_resize_keeps_the_shape_by_the_shorter_side():
    assert Resize(20)(random_image((40, 100, 3)), rng()).shape == (20, 50, 3)
    assert Resize(20)(random_image((100, 40, 3)), rng()).shape == (50, 20, 3)


@pytest.mark.parametrize(
    'cfg, words',
    [
        (dict(type='RandomResizedCrop', size=0), ['size=0']),
        (dict(type='RandomResizedCrop', size=(1, 2, 3)), ['(1, 2, 3)', '(height, width)']),
        (dict(type='RandomResizedCrop', size=8, scale=(1.0, 0.2)), ['(1.0, 0.2)']),
        (dict(type='RandomResizedCrop', size=8, interpolation='cubic'), ['cubic', 'bicubic']),
        (dict(type='Resize', size=(1, 2, 3)), ['(1, 2, 3)']),
        (dict(type='Resize', size=-4), ['-4']),
        (dict(type='CenterCrop', size='a'), ["'a'"]),
        (dict(type='RandomFlip', direction='diagonal'), ['diagonal', 'horizontal']),
        (dict(type='RandomFlip', prob=2), ['prob=2']),
        (dict(type='PadToMultiple', divisor=0), ['divisor=0']),
    ],
    ids=lambda value: value['type'] if isinstance(value, dict) else None,
)
def test_refusals_at_construction(cfg, words):
    with pytest.raises(UserError) as caught:
        TRANSFORMS.build(cfg)
    for word in words:
        assert word in str(caught.value)
