"""Images that promise too much are broken before they are decoded; thin ones are not blown up."""

import io
import os
import tracemalloc
import zipfile

import numpy as np
import pytest
from PIL import Image

from mae_toolkit.datasets import (
    BrokenImageError,
    CenterCrop,
    ImageDataset,
    ImageLimits,
    RandomCrop,
    Resize,
    functional,
    open_image,
    read_image,
)
from mae_toolkit.datasets.header_bytes import read_header_size
from mae_toolkit.datasets.image_headers import read_image_header
from mae_toolkit.datasets.image_limits import is_out_of_memory
from mae_toolkit.datasets.thin_images import resize_and_crop, should_crop_first
from mae_toolkit.errors import UserError
from odd_images import archive, array, inflated_text, jpeg, png, too_large, webp

PICTURE = np.random.default_rng(0).integers(0, 255, (30, 40, 3), np.uint8)
BROKEN = too_large()


def written(folder, name, data):
    path = folder / name
    path.write_bytes(data)
    return path


@pytest.mark.parametrize('name', BROKEN)
def test_a_header_that_promises_too_much_is_broken_and_nothing_is_allocated(tmp_path, name):
    path = written(tmp_path, name, BROKEN[name])
    tracemalloc.start()
    with pytest.raises(BrokenImageError) as caught:
        read_image(path)
    assert tracemalloc.get_traced_memory()[1] < 64 << 20
    tracemalloc.stop()
    if name not in ('lossless.webp', 'wide.npy'):  # refused by Pillow's own limit, and as truncated
        assert 'more than max_pixels=268,435,456' in caught.value.reason


def test_the_limits_are_of_pixels_and_of_bytes_and_can_be_raised_and_lowered(tmp_path):
    for suffix in ('png', 'tif', 'webp', 'bmp', 'ppm', 'gif', 'jpg'):
        Image.fromarray(PICTURE).save(tmp_path / f'a.{suffix}')
    np.save(tmp_path / 'a.npy', PICTURE)
    np.savez_compressed(tmp_path / 'a.npz', PICTURE)
    for path in sorted(tmp_path.iterdir()):
        assert read_image(path, ImageLimits(pixels=1200)).shape == (30, 40, 3)
        with pytest.raises(BrokenImageError, match='30 x 40 pixels = 1,200, more than max_pixels=1,199'):
            read_image(path, ImageLimits(pixels=1199))
        with pytest.raises(BrokenImageError, match='bytes, more than max_bytes=1,000'):
            read_image(path, ImageLimits(bytes=1000))
    with pytest.raises(BrokenImageError, match=r'30 x 40 pixels take 3,600 bytes, more than max_bytes=3,599'):
        read_image(tmp_path / 'a.jpg', ImageLimits(bytes=3599))


def test_a_large_file_is_not_read(tmp_path):
    path = tmp_path / 'sparse.png'
    with open(path, 'wb') as file:
        file.truncate(1 << 36)  # takes no room on the disk
    with pytest.raises(BrokenImageError, match='the file has 68,719,476,736 bytes, more than max_bytes=2,147,483,648'):
        read_image(path)


def test_what_is_compressed_to_nearly_nothing_is_not_unpacked(tmp_path):
    for kind in (b'zTXt', b'iCCP'):
        with pytest.raises(BrokenImageError, match='too large'):
            read_image(written(tmp_path, 'a.png', png(8, 8, color=0, extra=inflated_text(kind), data=bytes(72))))
    with pytest.raises(BrokenImageError, match='contains no array'):
        read_image(written(tmp_path, 'a.npz', archive('a.txt', bytes(1 << 20))))


def test_arrays_that_are_shorter_than_they_promise(tmp_path):
    for shape, words in (((2000, 2000), 'truncated'), ((-1, 5), 'not of shape'), ((10**30, 10**30), 'max_pixels')):
        with pytest.raises(BrokenImageError, match=words):
            read_image(written(tmp_path, 'a.npy', array(shape)))
    with pytest.raises(BrokenImageError, match='truncated'):
        read_image(written(tmp_path, 'a.npz', archive('a.npy', array((9, 9), data=bytes(80)))))
    columns_first = np.asfortranarray(np.arange(30, dtype='>u2').reshape(5, 6))
    np.savez_compressed(tmp_path / 'b.npz', columns_first)
    np.testing.assert_array_equal(read_image(tmp_path / 'b.npz')[..., 0], columns_first)


def test_numbers_beyond_float32_are_broken_and_infinite_ones_are_not(tmp_path):
    np.save(tmp_path / 'a.npy', np.full((4, 4), 1e300))
    with pytest.raises(BrokenImageError, match='overflow'):
        read_image(tmp_path / 'a.npy')
    np.save(tmp_path / 'b.npy', np.full((4, 4), np.inf))
    assert np.isinf(read_image(tmp_path / 'b.npy')).all()  # the guard of the training loop names it


def test_sizes_are_read_from_headers():
    buffers = {}
    for kind, options in {'PNG': {}, 'JPEG': {}, 'WEBP': {}, 'webp': {'lossless': True}, 'jpeg': {'progressive': True},
                          'JPEG2000': {'irreversible': False}}.items():  # fmt: skip
        buffers[kind] = io.BytesIO()
        Image.fromarray(PICTURE).save(buffers[kind], kind, **options)
        assert read_header_size(buffers[kind].getvalue()) == (30, 40), kind
    assert read_header_size(webp(70_000, 9)) == (9, 70_000)
    data = buffers['JPEG'].getvalue()
    assert read_header_size(data[:20]) is read_header_size(b'') is read_header_size(b'RIFF') is None
    assert read_header_size(data[:2] + b'\xff\xff' + data[2:]) == (30, 40)  # fill bytes before a marker


def test_the_limit_of_pillow_is_the_programs_own():
    assert Image.MAX_IMAGE_PIXELS == (1024 * 1024 * 1024 // 4 // 3)


@pytest.mark.parametrize('value', [0, -1, 1.5, '9', True])
def test_limits_are_whole_numbers(value):
    with pytest.raises(UserError, match='max_pixels='):
        ImageLimits(pixels=value)


def test_a_dataset_skips_and_names_what_is_too_large(tmp_path):
    for name, data in BROKEN.items():
        if not name.endswith('.gif'):
            written(tmp_path, name, data)
    Image.fromarray(PICTURE).save(tmp_path / 'z.png')
    item = ImageDataset(str(tmp_path), max_tries=40)[0]
    assert item['name'] == 'z.png' and len(item['broken']) == len(BROKEN) - 1
    with pytest.raises(UserError, match='z.png'):
        ImageDataset(str(tmp_path), max_tries=40, max_pixels=1199)[0]
    with pytest.raises(UserError, match='max_bytes=0 must be'):
        ImageDataset(str(tmp_path), max_bytes=0)


def test_too_little_memory_makes_an_image_broken(tmp_path, monkeypatch):
    path = written(tmp_path, 'a.jpg', jpeg(64, 64))

    def fail(*args, **kwargs):
        raise MemoryError

    monkeypatch.setattr('simplejpeg.decode_jpeg', fail)
    with pytest.raises(BrokenImageError, match=r'not enough memory for its 64 x 64 pixels \(12,288 bytes\)'):
        read_image(path)
    Image.fromarray(PICTURE).save(tmp_path / 'a.png')
    monkeypatch.setattr('PIL.ImageOps.exif_transpose', fail)
    with pytest.raises(BrokenImageError, match='not enough memory for its 30 x 40 pixels'):
        open_image(tmp_path / 'a.png')


def test_memory_that_runs_out_in_a_pipeline_is_the_images_and_other_errors_are_not(tmp_path):
    Image.fromarray(PICTURE).save(tmp_path / 'a.png')

    class Fails(Resize):
        def __call__(self, image, rng):
            raise RuntimeError(self.message)

        load = None

    step = Fails(8)
    step.load = lambda file, rng: step(None, rng)
    dataset = ImageDataset(str(tmp_path), [step])
    step.message = "[enforce fail at alloc_cpu.cpp:114] . DefaultCPUAllocator: can't allocate memory: you tried ..."
    with pytest.raises(UserError, match='not enough memory to prepare its 30 x 40 pixels'):
        dataset[0]
    step.message = 'a mistake in the pipeline'
    with pytest.raises(RuntimeError, match='a mistake'):
        dataset[0]
    assert is_out_of_memory(MemoryError()) and not is_out_of_memory(ValueError('out of memory'))


@pytest.mark.parametrize('shape', [(1, 10_000), (10_000, 1), (2, 9_000), (30_000, 60)])
@pytest.mark.parametrize('crop', [CenterCrop(32), RandomCrop(32), CenterCrop((48, 20))], ids=lambda c: str(c.size))
@pytest.mark.parametrize('dtype', [np.uint8, np.uint16, np.float32])
def test_a_thin_image_is_cropped_before_it_is_resized(shape, crop, dtype):
    """What is made equals what resizing everything and cropping gives, and random numbers are drawn alike."""
    image = (np.random.default_rng(1).random((*shape, 3)) * 200).astype(dtype)
    step = Resize(32)
    assert should_crop_first(step, crop, shape)
    want, got = (make(np.random.default_rng(2)) for make in (
        lambda rng: crop(step(image, rng), rng), lambda rng: resize_and_crop(image, step, crop, rng)
    ))  # fmt: skip
    assert got.dtype == dtype
    np.testing.assert_allclose(got.astype(float), want.astype(float), atol=1.01)


def test_what_a_crop_cuts_away_of_a_thin_image_is_not_made(tmp_path, monkeypatch):
    Image.new('RGB', (10_000, 1), (1, 200, 3)).save(tmp_path / 'a.png')
    made, interpolate = [], functional.interpolate

    def spy(x, size, **options):
        made.append(size[0] * size[1])
        return interpolate(x, size=size, **options)

    monkeypatch.setattr(functional, 'interpolate', spy)
    for crop in ({'type': 'CenterCrop', 'size': 224}, {'type': 'RandomCrop', 'size': 224}):
        image = ImageDataset(str(tmp_path), [{'type': 'Resize', 'size': 224}, crop])[0]['img']
        assert tuple(image.shape) == (3, 224, 224) and image[1].unique().tolist() == [200]
    assert len(made) == 2 and max(made) < 20 * 224 * 224  # it was 10,000 times as much


def test_ordinary_images_are_resized_and_then_cropped_as_ever(tmp_path):
    Image.fromarray(PICTURE).save(tmp_path / 'a.png')
    steps = [Resize(20), CenterCrop(16)]
    assert not should_crop_first(*steps, (30, 40)) and not should_crop_first(Resize((9, 9)), steps[1], (1, 10**6))
    assert not should_crop_first(steps[0], None, (1, 10**6))
    got = ImageDataset(str(tmp_path), steps)[0]['img'].permute(1, 2, 0)
    np.testing.assert_array_equal(got, steps[1](steps[0](PICTURE, None), None))


def test_a_thin_image_that_nothing_crops_is_broken(tmp_path):
    Image.new('RGB', (10_000, 1)).save(tmp_path / 'a.png')
    sentence = 'would be resized to 224 x 2,240,000 pixels = 501,760,000, more than max_pixels=268,435,456'
    with pytest.raises(UserError, match=f'its 1 x 10,000 pixels {sentence}'):
        ImageDataset(str(tmp_path), [{'type': 'Resize', 'size': 224}])[0]


def test_names_that_are_no_utf8_are_read(tmp_path):
    path = os.path.join(os.fsencode(tmp_path), b'latin\xe9.png')
    with open(path, 'wb') as file:
        Image.fromarray(PICTURE).save(file, 'PNG')
    assert ImageDataset(str(tmp_path))[0]['name'] == os.fsdecode(b'latin\xe9.png')


def test_header_of_an_archive_is_that_of_its_first_array(tmp_path):
    array = io.BytesIO()
    np.save(array, np.zeros((5, 7), np.uint8))
    with zipfile.ZipFile(tmp_path / 'a.npz', 'w') as archive:
        archive.writestr('readme.txt', 'not an array')
        archive.writestr('image.npy', array.getvalue())
    header = read_image_header(tmp_path / 'a.npz')
    assert (header.size, header.reason) == ((5, 7), '')
    assert header.size == read_image(tmp_path / 'a.npz').shape[:2]
    np.savez(tmp_path / 'objects.npz', np.array([[{}]]))
    assert 'Python objects' in read_image_header(tmp_path / 'objects.npz').reason
