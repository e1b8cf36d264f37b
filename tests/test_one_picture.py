"""One picture costs one picture in predict and reconstruct, and the record is on the disk at any time."""

import errno
import io
import json
import logging
import os
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from engine_toys import make_runner
from mae_toolkit.apis import per_image, predict_images, reconstruct_images
from mae_toolkit.apis.per_image import GrowingRecord, report_skipped, run_over_images
from mae_toolkit.cli import run_tool
from mae_toolkit.datasets import ImageLimits
from mae_toolkit.datasets.image_files import find_images
from mae_toolkit.downstream.predictor import Predictor
from mae_toolkit.errors import UserError
from mae_toolkit.models.preprocessor import ImagePreprocessor
from mae_toolkit.outputs import NAME_BYTES, make_file_name
from mae_toolkit.printing import printable
from mae_toolkit.visualization import grid, to_rgb
from odd_images import png
from parts import make_model

LATIN = os.fsdecode(b'latin\xe9.png')
LONG, LONG_UMLAUTS = 'n' * 244 + '.png', 'ü' * 120 + '.png'


class Brightness(Predictor):
    """Predicts the mean of an image; fails where a test asks for it."""

    task, classes, limits = 'brightness', ['dark', 'light'], ImageLimits()

    def __init__(self, failures=None):
        self.failures = failures or {}

    def _predict(self, file):
        error = self.failures.get(Path(file.path).name, self.failures.get('all'))
        if error is not None:
            raise error
        return float(file.decode().mean())

    def to_dict(self, result):
        return {'mean': result}

    def draw(self, image, result, side=None):
        return Image.new('L', (8, 8), round(result) % 256)

    def maps(self, result):
        return {'labels': Image.new('L', (2, 2))}


@pytest.fixture
def photos(tmp_path):
    folder = tmp_path / 'photos'
    folder.mkdir()
    for name in ('a.png', 'b.png', 'z.png', LATIN, LONG, LONG_UMLAUTS, 'new\nline.png'):
        with open(folder / name, 'wb') as file:
            Image.new('RGB', (48, 40), (len(name) % 256, 20, 30)).save(file, 'PNG')
    return folder


def read(out, name='predictions.json'):
    return json.loads((out / name).read_bytes())


def images_of(folder):
    return sorted(find_images([folder]))


def test_any_name_is_recorded_and_its_picture_is_written(photos, tmp_path):
    out = tmp_path / 'out'
    images = images_of(photos)
    record = predict_images(Brightness(), images, out)
    assert record == read(out) and not record['skipped']
    assert {os.fsencode(one['image']) for one in record['images']} == {os.fsencode(path) for path in images}
    pictures = [one[kind] for one in record['images'] for kind in ('picture', 'labels')]
    assert sorted([*pictures, 'predictions.json']) == sorted(path.name for path in out.iterdir())
    assert len(set(pictures)) == 2 * len(images) and all(name.isprintable() for name in pictures)
    assert '\n' not in (out / 'predictions.json').read_text(encoding='utf-8').split('"image": ')[1].split('"height"')[0]
    assert 'ü' in (out / 'predictions.json').read_text(encoding='utf-8')  # readable


def test_names_are_made_safe():
    assert make_file_name('a b ü') == 'a b ü' and make_file_name('two\nlines') == 'two%0Alines'
    assert make_file_name(LATIN[:-4]) == 'latin%E9'
    for long in ('n' * 248, 'ü' * 124, '\udce9' * 248):
        name = make_file_name(long)
        assert len(name.encode()) <= NAME_BYTES and name != make_file_name(f'{long}2')


def test_failures_of_one_image_are_skipped_with_type_and_place(photos, tmp_path):
    (photos / 'bomb.png').write_bytes(png(60_000, 60_000))
    failures = {
        'a.png': RuntimeError('Kernel size\n cannot be greater'),
        'b.png': RuntimeError("DefaultCPUAllocator: can't allocate memory"),
        LONG: MemoryError(),
        'z.png': UserError('a.png has 5 channels'),
    }
    record = predict_images(Brightness(failures), images_of(photos), tmp_path / 'out')
    reasons = {Path(one['image']).name: one['reason'] for one in record['skipped']}
    assert set(reasons) == {*failures, 'bomb.png'} and len(record['images']) == 3
    place = 'raised for its 40 x 48 pixels in test_one_picture.py, line '
    assert reasons['a.png'].startswith(f'RuntimeError: Kernel size cannot be greater; {place}')
    assert reasons['b.png'].startswith('there is not enough memory for its 40 x 48 pixels (RuntimeError')
    assert reasons[LONG].startswith('there is not enough memory') and reasons['z.png'] == 'a.png has 5 channels'
    assert 'max_pixels' in reasons['bomb.png'] and record == read(tmp_path / 'out')


def test_what_fails_on_every_image_is_raised_with_its_trace(photos, tmp_path):
    (photos / 'empty.jpg').write_bytes(b'')
    with pytest.raises(AttributeError, match='a mistake') as caught:
        predict_images(Brightness({'all': AttributeError('a mistake')}), images_of(photos), tmp_path / 'out')
    assert caught.traceback[-1].name == '_predict' and not (tmp_path / 'out').exists()
    for error in (MemoryError(), UserError('5 channels')):
        with pytest.raises(UserError, match='None of the 8 images could be read, from'):
            predict_images(Brightness({'all': error}), images_of(photos), tmp_path / 'out')


def test_what_a_library_says_of_very_small_images_alone_is_a_sentence(tmp_path):
    Image.new('RGB', (9, 1)).save(tmp_path / 'line.png')
    with pytest.raises(UserError, match='RuntimeError: too small; raised for its 1 x 9 pixels'):
        predict_images(Brightness({'all': RuntimeError('too small')}), [tmp_path / 'line.png'], tmp_path / 'out')


@pytest.mark.parametrize('error', [KeyboardInterrupt(), OSError(errno.ENOSPC, 'No space left on device')])
def test_what_was_done_before_an_interruption_or_a_full_disk_is_kept(photos, tmp_path, error):
    with pytest.raises(type(error)):
        predict_images(Brightness({'z.png': error}), images_of(photos), tmp_path / 'out')
    kept = read(tmp_path / 'out')
    assert [Path(one['image']).name for one in kept['images']] == [path.name for path in images_of(photos)][:-2]


def test_the_record_is_whole_after_each_image_as_a_kill_would_leave_it(tmp_path, monkeypatch):
    path = tmp_path / 'record.json'
    record = GrowingRecord(path, {'task': 'x', 'classes': ['ä', '"']})
    record.skip('first.png', 'broken')
    assert not path.exists()
    for i in range(20):
        record.add({'image': f'{i}.png', 'score': i / 7})
        if i % 3 == 0:
            record.skip(f'{i}{LATIN}', 'odd' * i)
        assert json.loads(path.read_bytes()) == record.to_dict()
    monkeypatch.setattr(per_image, 'LONG_END', 0)  # of a long list of skipped images not every state is written
    monkeypatch.setattr(per_image, 'PAUSE', 1e9)
    record.add({'image': 'late.png'})
    assert len(json.loads(path.read_bytes())['images']) == 20
    record.close()
    assert json.loads(path.read_bytes()) == record.to_dict() and len(record.images) == 21
    with pytest.raises(ValueError, match='JSON compliant'):
        GrowingRecord(path, {'task': 'x'}).add({'score': float('nan')})


def test_a_disk_that_fills_up_within_a_write_leaves_the_record_readable(tmp_path, monkeypatch):
    path = tmp_path / 'record.json'
    record = GrowingRecord(path, {'task': 'x'})
    record.add({'image': 'a.png'})
    before, write_all = path.read_bytes(), per_image._write_all
    failing = [True]

    def full(file, content, place):
        write_all(file, content[:5] if failing else content, place)
        if failing:
            failing.clear()
            raise OSError(errno.ENOSPC, 'No space left on device')

    monkeypatch.setattr(per_image, '_write_all', full)
    with pytest.raises(OSError, match='No space'):
        record.add({'image': 'b.png'})
    assert path.read_bytes() == before
    record.add({'image': 'c.png'})
    assert [one['image'] for one in json.loads(path.read_bytes())['images']] == ['a.png', 'c.png']


def test_links_to_themselves_are_skipped(photos, tmp_path):
    (photos / 'loop.png').symlink_to('loop.png')
    (photos / 'self').symlink_to('.')
    images = [photos / 'loop.png', photos / 'a.png']
    record = predict_images(Brightness(), images, tmp_path / 'out')
    assert len(record['images']) == 1 and record['skipped'][0]['image'] == str(photos / 'loop.png')


def test_work_that_is_of_no_tool_can_be_done_the_same_way(photos, tmp_path):
    record = GrowingRecord(tmp_path / 'sizes.json', {'what': 'sizes'})
    found = run_over_images([photos / 'a.png'], lambda i, file: {'size': file.size}, record, ImageLimits())
    assert found['images'] == [{'size': (40, 48)}]


@pytest.fixture
def model():
    torch.manual_seed(0)
    normalized = ImagePreprocessor(mean=[123.0] * 3, std=[58.0] * 3)
    return make_model(data_preprocessor=normalized).eval()


def test_reconstruct_skips_names_and_records(photos, tmp_path, model):
    np.save(photos / 'nan.npy', np.full((40, 48, 3), np.nan, np.float32))
    np.save(photos / 'five.npy', np.zeros((40, 48, 5), np.float32))
    Image.new('RGB', (1, 1)).save(photos / 'one.png')
    Image.new('RGB', (10_000, 1)).save(photos / 'thin.png')
    (photos / 'bomb.png').write_bytes(png(60_000, 60_000))
    out = tmp_path / 'out'
    images = images_of(photos)
    record = reconstruct_images(model, images, out, short_side=None, seed=3)
    assert record == read(out, 'reconstructions.json') and record['seed'] == 3
    reasons = {Path(one['image']).name: one['reason'] for one in record['skipped']}
    assert set(reasons) >= {'nan.npy', 'five.npy', 'one.png', 'bomb.png'} and len(record['images']) >= 7
    assert 'not finite' in reasons['nan.npy'] and '5 channels' in reasons['five.npy']
    assert all((out / one['picture']).is_file() for one in record['images'])
    record = reconstruct_images(model, images, out, short_side=224)
    thin = next(one['reason'] for one in record['skipped'] if one['image'].endswith('thin.png'))
    assert 'would be resized to 224 x 2,240,000 pixels' in thin
    assert all(printable(line) == line for line in report_skipped(record))


def test_a_prediction_that_is_not_finite_is_no_picture(photos, tmp_path, model):
    for weight in model.parameters():
        weight.data.fill_(float('nan'))
    with pytest.raises(UserError, match='its prediction is not finite'):
        reconstruct_images(model, [photos / 'a.png'], tmp_path / 'out')


@pytest.mark.parametrize('encoding', ['ascii', 'latin-1', 'utf-8'])
def test_any_name_can_be_printed_in_any_locale(monkeypatch, encoding):
    streams = [io.TextIOWrapper(io.BytesIO(), encoding=encoding) for _ in range(2)]
    monkeypatch.setattr(sys, 'stdout', streams[0])
    monkeypatch.setattr(sys, 'stderr', streams[1])

    def main():
        print(f'wrote 日本 {LATIN}')
        raise UserError(f'there is no {LATIN} …')

    with pytest.raises(SystemExit):
        run_tool(main)
    for stream in streams:
        stream.flush()
        assert b'latin\\udce9.png' in stream.buffer.getvalue() and stream.errors == 'strict'


def test_any_name_can_be_logged(tmp_path, capfd):
    logger = make_runner(tmp_path).logger
    logger.warning(f'broken: {LATIN} 日本')
    logging.shutdown([])
    (log,) = tmp_path.rglob('*.log')
    assert 'latin\\udce9.png' in log.read_text(encoding='utf-8')
    assert 'Logging error' not in capfd.readouterr().err


def test_names_are_printed_in_one_line():
    assert printable('a\nb\udce9 ü\x1b[0m') == 'a\\nb\\xe9 ü\\x1b[0m'


@pytest.mark.parametrize('channels', [1, 2, 3, 5])
@pytest.mark.parametrize('dtype', [np.uint8, np.float32])
def test_pictures_to_be_shown_are_converted_in_parts_and_bytes_as_they_are(monkeypatch, channels, dtype):
    image = np.arange(channels * 256, dtype=np.uint8).reshape(channels, 16, 16).astype(dtype)
    low, high = np.zeros((channels, 1, 1)), np.full((channels, 1, 1), 255.0)
    whole = to_rgb(image, low, high)
    shown = np.zeros((16, 16, 3), np.uint8)
    shown[..., : 3 if channels == 1 else min(channels, 3)] = image[:3].transpose(1, 2, 0)
    np.testing.assert_array_equal(whole, shown)
    stretched = to_rgb(image, low + 10, high - 20)
    monkeypatch.setattr(grid, 'PIXELS', 40)  # two or three rows
    np.testing.assert_array_equal(to_rgb(image, low + 10, high - 20), stretched)
    assert stretched[0, 15, 0] == round(5 / 225 * 255)
