"""The check of images and masks of MMSegmentation before the first step: errors, warnings, and what is fine."""

import os
import re

import numpy as np
import pytest
from PIL import Image

pytest.importorskip('mmseg', reason='MMSegmentation is not installed: pip install -e .[seg]')


from semantic_set import (
    CLASSES,
    COLORS,
    for_all,
    label_of,
    look,
    make_config,
    make_set,
    refusal,
    save_image,
    warning,
    write,
)


@pytest.fixture
def root(tmp_path):
    return make_set(tmp_path / 'set')


def test_a_sound_set_is_counted_and_nothing_is_said(root):
    for split, images in (('train', 4), ('val', 2)):
        report = look(make_config(root), split)
        assert not report.findings and not report.left_out
        assert (report.images, report.annotations) == (images, images)
        counts = images * np.bincount(label_of(0).ravel())
        assert report.classes == dict(zip(CLASSES, counts.tolist(), strict=True))


def in_colors(label):
    return Image.fromarray(np.uint8(COLORS)[label])


def with_alpha(label):
    return Image.fromarray(np.dstack([label, np.full_like(label, 255)]), 'LA')


def deep(label, old, new):
    return Image.fromarray(np.where(label == old, np.uint16(new), label.astype(np.uint16)))


def palette(label, colors=COLORS):
    mask = Image.fromarray(label, 'P')
    mask.putpalette(np.ravel(colors).tolist())
    return mask


REFUSED_MASKS = {
    'in colors': (in_colors, r'4 of the 4 masks have colors .*n0.png has 3 channels .*, not its color'),
    'three equal channels': (lambda x: Image.fromarray(np.dstack([x] * 3)), 'any of its three equal channels'),
    'four channels': (lambda x: in_colors(x).convert('RGBA'), 'n0.png has 4 channels where one is expected, RGBA'),
    'gray and alpha': (with_alpha, 'n0.png has 2 channels .*, which is the first channel'),
    'another size': (lambda x: Image.fromarray(x).resize((64, 48), 0), 'n0.png has 48 x 64 pixels, .*n0.jpg 24 x 32'),
    'from one': (lambda x: Image.fromarray(x + 1), r'labels \(3\) beyond .* 0 to 2 .*begin at 1: set reduce_zero'),
    'gray levels': (lambda x: Image.fromarray(x * 127), r'labels \(127, 254\) beyond .* gray levels'),
    'levels to 255': (lambda x: Image.fromarray(np.uint8([0, 127, 255])[x]), r'labels \(127\) beyond .* gray levels'),
    'ignored alone': (lambda x: Image.fromarray(x * 0 + 255), '3 of the 3 classes occur in none of the 4 .* 100% of'),
    '16 bits': (lambda x: deep(x, 2, 258), r'4 of the 4 masks read .*n0.png: 258 becomes 2.* relabel them'),
    '16 bits, into the ignored': (lambda x: deep(x, 2, 1000), 'n0.png: 1000 becomes 232'),
}


@pytest.mark.parametrize('name', REFUSED_MASKS)
def test_masks_that_hold_no_labels_are_refused(root, name):
    change, sentence = REFUSED_MASKS[name]
    for_all(root, change)
    said = refusal(make_config(root))
    assert _matches(sentence, said), said
    assert 'val data' in refusal(make_config(root), 'val')


def _matches(pattern, text):
    return re.search(pattern, text, re.DOTALL) is not None


FINE_MASKS = {
    'a palette': palette,
    '16 bits': lambda x: Image.fromarray(x.astype(np.uint16)),
    'a palette of black alone': lambda x: palette(x, [[0, 0, 0]] * 256),
    'some pixels ignored': lambda x: Image.fromarray(np.where(np.indices(x.shape)[0] == 1, 255, x).astype(np.uint8)),
}


@pytest.mark.parametrize('name', FINE_MASKS)
def test_sound_masks_are_accepted(root, name):
    for_all(root, FINE_MASKS[name])
    assert warning(make_config(root)) == '' and warning(make_config(root), 'val') == ''


def test_a_transparent_index_changes_nothing(root):
    for number in range(6):
        path = root / 'labels' / f'n{number}.png'
        Image.open(path).save(path, transparency=0)
    assert warning(make_config(root)) == ''


DOUBTFUL_MASKS = {
    '0 and 255': (lambda x: Image.fromarray((x > 0).astype(np.uint8) * 255), '2 of the 3 classes .*if 255 means a cl'),
    'bilevel': (lambda x: Image.fromarray(x > 0), r'1 of the 3 classes occurs in none of the 4 masks .*\(blue \(2\)\)'),
    '65535': (
        lambda x: deep(x, 2, 65535),
        'masks read have labels that 8 bits cannot store, and are read as 255, which',
    ),
    'no gray': (lambda x: Image.fromarray(np.maximum(x, 1)), 'if the labels begin at 1, set reduce_zero_label=True'),
}


@pytest.mark.parametrize('name', DOUBTFUL_MASKS)
def test_masks_with_doubtful_labels_are_warned_of(root, name):
    change, sentence = DOUBTFUL_MASKS[name]
    for_all(root, change)
    said = warning(make_config(root))
    assert _matches(sentence, said), said


def test_masks_of_32_bits_and_of_fractions(root):
    def save(values):
        for number in range(6):
            Image.fromarray(values(number)).save(root / 'labels' / f'n{number}.tif')
        return make_config(root, seg_map_suffix='.tif')

    assert 'n0.tif: -2 becomes 254' in refusal(save(lambda n: np.full((24, 32), -2, np.int32)))
    assert '4 of the 4 masks read contain fractions' in refusal(save(lambda n: np.full((24, 32), 0.5, np.float32)))
    assert 'contain fractions' in refusal(save(lambda n: np.full((24, 32), np.nan, np.float32)))


def test_jpegs_are_no_masks_whatever_their_name(root):
    Image.open(root / 'labels' / 'n1.png').save(root / 'labels' / 'n1.png', 'JPEG')
    assert '1 of the 4 masks is compressed as JPEG, which alters labels' in refusal(make_config(root))


def test_masks_of_one_color_that_are_ignored_are_counted(root):
    for_all(root, lambda x: Image.fromarray(x * 0 + 255), [1, 3])
    said = warning(make_config(root))
    assert '2 of the 4 masks contain nothing but the ignored label 255' in said and 'n1.png' in said


def test_palettes_in_another_order_are_said(root):
    def swapped(label):
        return palette(np.uint8([0, 2, 1])[label], [COLORS[0], COLORS[2], COLORS[1]])

    for_all(root, swapped)
    assert '1, red, has the color of blue' in warning(make_config(root))
    for_all(root, palette)
    for_all(root, swapped, [2])
    said = warning(make_config(root, metainfo=dict(classes=CLASSES)))
    assert '1 of the 4 masks read has palettes in another order than others' in said and 'n2.png' in said


def test_palettes_that_opencv_expands_are_refused(root):
    for_all(root, palette)
    cfg = make_config(root)
    cfg.train_dataloader.dataset.pipeline[1].imdecode_backend = 'cv2'
    assert 'has 3 channels where one is expected' in refusal(cfg) and 'pillow' in refusal(cfg)


def test_labels_that_are_reduced(root):
    for_all(root, lambda x: Image.fromarray(x + 1))
    assert warning(make_config(root, reduce_zero_label=True)) == ''
    for_all(root, Image.fromarray)
    said = warning(make_config(root, reduce_zero_label=True))
    assert '(blue (2)): if label 0 is a class, set reduce_zero_label=False' in said


def test_the_number_of_masks_that_are_read_is_that_of_the_hook(root):
    for_all(root, lambda x: Image.fromarray(x + 5), [1])
    cfg = make_config(root)
    assert 'labels (5, 6, 7) beyond' in refusal(cfg)
    cfg.default_hooks = dict(segmentation=dict(type='mae_toolkit.SegmentationHook', masks=2))  # n0 and n2
    assert refusal(cfg) == ''
    cfg.default_hooks.segmentation.masks = -1
    assert 'masks=-1 must be a whole number of at least 0: how many masks are read' in refusal(cfg)


# --- images


def test_orientations_by_exif(root):
    for number in range(6):
        save_image(root, number, 6)
    said = refusal(make_config(root))
    assert '4 of the 4 masks do not fit the image, which is rotated by its EXIF' in said
    assert 'n0.png has 24 x 32 pixels, and its image' in said and '32 x 24' in said
    assert "color_type='color_ignore_orientation'" in said
    cfg = make_config(root)
    cfg.train_dataloader.dataset.pipeline[0].color_type = 'color_ignore_orientation'
    assert warning(cfg) == ''
    for_all(root, lambda x: Image.fromarray(x).rotate(-90, expand=True))
    assert warning(make_config(root)) == ''  # the masks were drawn on what is seen
    assert 'which is not rotated' in refusal(cfg)


def test_turns_that_sizes_cannot_show_are_said(root):
    for number, orientation in enumerate((3, 2, 1, 4)):
        save_image(root, number, orientation)
    said = warning(make_config(root))
    assert '3 of the 4 images are rotated or mirrored by their EXIF orientation when they are read' in said
    assert 'n0.jpg is rotated by 180 degrees' in said
    for number in range(4):
        save_image(root, number, 8, (16, 16))
    for_all(root, lambda x: Image.fromarray(x[:16, :16]), range(4))
    assert '4 of the 4 images are rotated or mirrored' in warning(make_config(root))


def test_broken_files_are_skipped_in_training_and_refused_in_validation(root):
    write(root / 'images' / 'n1.jpg', b'\xff\xd8\xff broken')
    write(root / 'labels' / 'n2.png', b'')
    whole = (root / 'labels' / 'n3.png').read_bytes()
    write(root / 'labels' / 'n3.png', whole[:-40])  # its header is whole
    report = look(make_config(root))
    said = warning(make_config(root))
    assert '1 of the 4 images cannot be read and will be skipped' in said and 'n1.jpg' in said
    assert 'n2.png: the file is empty' in said and 'n3.png: ' in said
    assert report.left_out == {'unreadable images': 1, 'unreadable masks': 2}
    write(root / 'images' / 'n4.jpg', 'text')
    assert '1 of the 2 images cannot be read (' in refusal(make_config(root), 'val')
    save_image(root, 4)
    write(root / 'labels' / 'n4.png', whole[:-40])
    assert 'masks cannot be read (' in refusal(make_config(root), 'val')


def test_training_without_half_of_the_files_is_refused(root):
    for number in range(3):
        write(root / 'images' / f'n{number}.jpg', 'text')
    assert '3 of the 4 images cannot be read (' in refusal(make_config(root))
    for number in range(3):
        save_image(root, number)
        write(root / 'labels' / f'n{number}.png', (root / 'labels' / 'n3.png').read_bytes()[:-40])
    assert '3 of the 4 masks cannot be read (' in refusal(make_config(root))


def test_masks_of_a_wrong_size_are_not_read(root):
    """They may promise more pixels than there is memory."""
    for_all(root, lambda x: Image.fromarray(np.uint8([[77]])), [1])
    report = look(make_config(root))
    assert len(report.errors) == 1 and sum(report.classes.values()) == 3 * 24 * 32


def test_a_shift_in_the_pipeline_alone_is_refused(root):
    cfg = make_config(root)
    cfg.train_dataloader.dataset.pipeline[1].reduce_zero_label = True
    assert 'LoadAnnotations has reduce_zero_label=True, and the dataset of' in refusal(cfg)


def test_links_to_themselves_and_folders_are_no_images(root):
    for name in ('n0', 'n1'):
        (root / 'images' / f'{name}.jpg').unlink()
    os.symlink('n0.jpg', root / 'images' / 'n0.jpg')
    (root / 'images' / 'n1.jpg').mkdir()
    assert '2 of the 4 images cannot be read and will be skipped' in warning(make_config(root))


def test_missing_files_come_with_what_is_there(root):
    for number in range(6):
        (root / 'images' / f'n{number}.jpg').rename(root / 'images' / f'n{number}.JPG')
    assert (
        '4 of the 4 images are missing' in (said := refusal(make_config(root))) and 'there is n0.JPG: set img_' in said
    )
    assert warning(make_config(root, img_suffix='.JPG')) == ''
    for number in range(6):
        (root / 'labels' / f'n{number}.png').rename(root / 'labels' / f'n{number}_mask.png')
    assert 'there is n0_mask.png: set seg_map_suffix' in refusal(make_config(root, img_suffix='.JPG'))
    assert 'no folder' in refusal(
        make_config(root, data_prefix=dict(img_path='images', seg_map_path='masks'), img_suffix='.JPG')
    )
