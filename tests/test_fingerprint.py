"""The fingerprint of a folder: each number against images whose answer is known."""

import dataclasses
import json
import subprocess
import sys

import numpy as np
import pytest
from PIL import Image

from mae_toolkit.datasets.fingerprint import take_fingerprint
from mae_toolkit.datasets.image_files import list_images
from mae_toolkit.datasets.near_duplicates import group_near_duplicates
from mae_toolkit.planning.table import describe_fingerprint


def noise(seed, size=(60, 80), channels=3):
    return np.random.default_rng(seed).integers(0, 256, (*size, channels), dtype=np.uint8).squeeze()


def smooth(seed, size=(60, 80)):
    """A picture that stays itself when it is resized."""
    small = Image.fromarray(noise(seed, (6, 8)))
    return np.asarray(small.resize(size[::-1], Image.Resampling.BICUBIC))


def fingerprint_of(folder, **kwargs):
    return take_fingerprint(folder, list_images(folder), **kwargs)


@pytest.fixture
def folder(tmp_path):
    """Twelve pictures: six of noise, two of which are gray; a copy in another size; one constant; one broken."""
    for seed in range(4):
        Image.fromarray(smooth(seed)).save(tmp_path / f'color{seed}.png')
    for seed in (4, 5):
        Image.fromarray(smooth(seed)[..., 0]).save(tmp_path / f'gray{seed}.png')
    Image.fromarray(smooth(0, (120, 160))).save(tmp_path / 'large.jpg', quality=95)
    Image.fromarray(np.full((60, 80, 3), 90, np.uint8)).save(tmp_path / 'plain.png')
    (tmp_path / 'sub').mkdir()
    (tmp_path / 'sub' / 'broken.jpg').write_bytes(b'\xff\xd8 no image')
    return tmp_path


def test_what_is_in_a_folder(folder):
    found = fingerprint_of(folder)
    assert (found.images, found.opened, found.readable, found.broken) == (9, 9, 8, 1)
    assert found.channels == {3: 6, 1: 2} and found.dtypes == {'uint8': 8}
    assert found.heights[0] == 60 and found.heights[-1] == 120 and found.widths[3] == 80
    assert found.aspect_ratios[3] == pytest.approx(4 / 3, rel=1e-3)
    assert list(found.broken_reasons) == ['sub/broken.jpg']
    assert found.constant_names == ['plain.png']
    assert found.duplicate_groups == [['color0.png', 'large.jpg']] and found.near_duplicates == 1
    text = '\n'.join(map(' '.join, describe_fingerprint(found)))
    for part in ('80 x 60', '1 image like another', 'plain.png', 'sub/broken.jpg', '3 (6 images)'):
        assert part in text


def test_mean_and_std_are_those_of_the_pixels(tmp_path):
    images = [noise(seed, (40, 50)) for seed in range(3)]
    for number, image in enumerate(images):
        Image.fromarray(image // (number + 1)).save(tmp_path / f'{number}.png')
    pixels = np.concatenate([(image // (i + 1)).reshape(-1, 3) for i, image in enumerate(images)]).astype(float)
    found = fingerprint_of(tmp_path)
    assert found.mean == pytest.approx(pixels.mean(0), rel=1e-4)
    assert found.std == pytest.approx(pixels.std(0), rel=1e-4)


def test_deep_images_and_opacity(tmp_path):
    for seed in range(2):
        np.save(tmp_path / f'{seed}.npy', noise(seed, channels=5).astype(np.uint16) * 100)
    found = fingerprint_of(tmp_path)
    assert found.channels == {5: 2} and found.dtypes == {'uint16': 2} and len(found.mean) == 5
    (tmp_path / 'clear').mkdir()
    Image.fromarray(noise(3, channels=4)).save(tmp_path / 'clear' / 'a.png')
    found = fingerprint_of(tmp_path / 'clear')
    assert found.channels == {3: 1} and found.with_alpha == 1 and len(found.mean) == 3
    for name, opacity in (('b', 255 * (smooth(7)[..., :1] > 99)), ('c', 255 * (smooth(8)[..., :1] > 99))):
        image = np.concatenate([smooth(6), opacity.astype(np.uint8)], axis=2)
        Image.fromarray(image).save(tmp_path / 'clear' / f'{name}.png')
    assert fingerprint_of(tmp_path / 'clear').duplicate_groups == [['b.png', 'c.png']]  # opacity is not looked at


def test_the_hash_follows_from_the_images_alone(folder, tmp_path_factory):
    first = fingerprint_of(folder)
    again = fingerprint_of(folder)
    assert first.hash == again.hash == dataclasses.replace(first, seconds=99.0).hash and len(first.hash) == 16
    assert json.loads(json.dumps(first.to_dict()))['hash'] == first.hash
    Image.fromarray(noise(9)).save(folder / 'more.png')
    assert fingerprint_of(folder).hash != first.hash


def test_different_pictures_are_no_duplicates(tmp_path):
    for seed in range(40):
        Image.fromarray(smooth(seed)).save(tmp_path / f'{seed}.png')
    assert fingerprint_of(tmp_path).near_duplicates == 0


def test_near_duplicates_have_like_hashes_and_like_thumbnails():
    hashes = np.random.default_rng(0).integers(0, 256, (6, 16), dtype=np.uint8)
    thumbnails = np.full((6, 16, 16), 100, np.uint8)
    hashes[3] = hashes[1] ^ np.array([1] * 7 + [0] * 9, np.uint8)  # seven bits
    hashes[4] = hashes[2] ^ np.array([1] * 8 + [0] * 8, np.uint8)  # eight
    hashes[5] = hashes[0]
    thumbnails[5] += 9
    assert group_near_duplicates(hashes, thumbnails) == [[1, 3]]


@pytest.mark.process
def test_several_processes_find_the_same(tmp_path):
    for seed in range(80):
        Image.fromarray(noise(seed, (20, 20))).save(tmp_path / f'{seed:02}.png')
    (tmp_path / 'broken.png').write_bytes(b'no image')
    assert fingerprint_of(tmp_path, processes=2).hash == fingerprint_of(tmp_path, processes=1).hash


@pytest.mark.process
def test_processes_start_after_opencv_has_used_threads(tmp_path):
    """A forked process that sets OpenCV's threads waits forever for those that it does not have."""
    for i in range(70):
        Image.fromarray(smooth(i)).save(tmp_path / f'{i}.png')
    code = f"""
import cv2, numpy as np
from mae_toolkit.datasets.fingerprint import take_fingerprint
from mae_toolkit.datasets.image_files import list_images
cv2.setNumThreads(4)
cv2.GaussianBlur(np.zeros((2000, 2000), np.float32), (0, 0), 5)
print(take_fingerprint({str(tmp_path)!r}, list_images({str(tmp_path)!r}), processes=2).readable, cv2.getNumThreads())
"""
    done = subprocess.run([sys.executable, '-c', code], capture_output=True, text=True, timeout=300)
    assert done.stdout.split() == ['70', '4'], done.stderr
