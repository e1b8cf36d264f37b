"""Features of many images: pooled, in batches of any size, by any number of workers, whatever some images are."""

import json
from functools import partial

import numpy as np
import psutil
import pytest
import torch
from PIL import Image
from torch import nn

from mae_toolkit.datasets.image_io import BrokenImageError
from mae_toolkit.datasets.image_limits import ImageLimits
from mae_toolkit.downstream.encoder_transform import EncoderTransform
from mae_toolkit.errors import UserError
from mae_toolkit.evaluation.embeddings import FeatureExtractor, pool_features
from mae_toolkit.evaluation.embeddings.cache import hash_weights
from mae_toolkit.evaluation.embeddings.reading import list_items
from mae_toolkit.export.preparation import Preparation
from mae_toolkit.models.encoders import Encoder
from mae_toolkit.models.features import Features
from mae_toolkit.registry import build
from parts import ENCODERS, randomized
from tiny import ROOT

BCCD = ROOT / 'mae_toolkit' / 'data' / 'tiny' / 'bccd' / 'images'
NUCLEI = ROOT / 'mae_toolkit' / 'data' / 'tiny' / 'dsb2018' / 'images'
REGISTERS = 'ViT learned positions, registers, levels'
CONVNEXT = {**ENCODERS['ConvNeXt'], 'out_indices': (0, 1, 2, 3)}


def make_encoder(config):
    return randomized(build(Encoder, dict(config))).eval()


def make_transform(channels=3, size=(32, 48), dtype='uint8'):
    scale = {'uint8': 1, 'uint16': 257}[dtype]
    return EncoderTransform(Preparation((120.0 * scale,) * channels, (50.0 * scale,) * channels, size, 48, dtype=dtype))


def make_extractor(config=CONVNEXT, **options):
    return FeatureExtractor(make_encoder(config), make_transform(), **options)


def equal(found, expected):
    assert found.names == expected.names and list(found.features) == list(expected.features)
    assert np.array_equal(found.sizes, expected.sizes)
    for name, values in expected.features.items():
        np.testing.assert_allclose(found[name], values, rtol=1e-5, atol=1e-5)


def test_poolings_are_what_their_names_say():
    x = torch.tensor([[[[1.0, 2.0], [3.0, -6.0]]]])  # one channel of 2 x 2
    tokens = torch.tensor([[[1.0], [5.0], [9.0]]])
    found = pool_features(Features((x,), (tokens,)), ('mean', 'max', 'gem', 'class', 'prefix'))
    values = {name: value.item() for name, value in found.items()}
    assert values['level1.mean'] == 0 and values['level1.max'] == 3
    assert values['level1.gem'] == pytest.approx((36 / 4) ** (1 / 3))  # of 1, 8, 27 and, for what is negative, 0
    assert values['level1.class'] == 1 and values['level1.prefix'] == 5
    assert list(pool_features(Features.from_maps([x, x]), ('mean', 'class'), [2])) == ['level2.mean']


def test_every_level_and_pooling_is_that_of_the_encoder():
    config = ENCODERS[REGISTERS]
    extractor = make_extractor(config)
    paths = sorted(BCCD.glob('*.jpg'))[:3]
    found = extractor(paths)
    imgs = torch.stack([extractor.transform(path) for path in paths])
    with torch.no_grad():
        features = extractor.encoder.encode(imgs)
    assert len(features.maps) == 3 and found.names == tuple(map(str, paths))
    poolings = ('mean', 'max', 'gem', 'class', 'prefix')
    with_tokens = [level for level, tokens in enumerate(features.prefixes, 1) if tokens is not None]
    levels = [(level, name) for level in (1, 2, 3) for name in poolings]
    expected = [f'level{a}.{b}' for a, b in levels if b in poolings[:3] or a in with_tokens]
    assert with_tokens and list(found.features) == expected
    for level in with_tokens:
        tokens, x = features.prefixes[level - 1], features.maps[level - 1]
        assert tokens.shape[1] == 3  # the class token and two registers
        np.testing.assert_allclose(found[f'level{level}.class'], tokens[:, 0], rtol=1e-4, atol=1e-5)
        np.testing.assert_allclose(found[f'level{level}.prefix'], tokens.mean(1), rtol=1e-4, atol=1e-5)
        np.testing.assert_allclose(found[f'level{level}.max'], x.amax((2, 3)), rtol=1e-4, atol=1e-5)
    assert found.sizes.tolist() == [[168, 224]] * 3


def test_registers_alone_are_no_class_token():
    config = {**ENCODERS[REGISTERS], 'class_token': False}
    found = make_extractor(config)(sorted(BCCD.glob('*.jpg'))[:1])
    assert any(name.endswith('.prefix') for name in found.features)
    assert not any(name.endswith('.class') for name in found.features)
    with pytest.raises(UserError, match='no tokens for the pooling class: choose mean, max or gem'):
        make_extractor(config, poolings=['class'])(sorted(BCCD.glob('*.jpg'))[:1])


def test_an_encoder_without_tokens_has_none():
    with pytest.raises(UserError, match='no tokens for the pooling class and prefix: choose mean, max or gem'):
        make_extractor(poolings=['class', 'prefix'])(sorted(BCCD.glob('*.jpg'))[:1])


@pytest.mark.parametrize(
    'options, sentence',
    [
        ({'levels': [5]}, 'There is no level 5: the encoder has 4 levels, 1 the finest'),
        ({'levels': [0]}, 'There is no level 0'),
        ({'levels': []}, 'No level is asked for'),
        ({'poolings': ['men']}, "There is no pooling 'men'; did you mean mean"),
        ({'poolings': []}, 'No pooling is asked for'),
    ],
)
def test_levels_and_poolings_out_of_range_are_refused(options, sentence):
    with pytest.raises(UserError, match=sentence):
        make_extractor(**options)


def test_levels_and_poolings_can_be_chosen():
    found = make_extractor(levels=[2, 4], poolings=['max'])(sorted(BCCD.glob('*.jpg'))[:1])
    assert list(found.features) == ['level2.max', 'level4.max'] and len(found) == 1


def test_batches_of_any_size_give_the_same():
    paths = sorted(BCCD.glob('*.jpg'))[:7]
    whole = make_extractor(batch_size=7)
    expected = whole(paths)
    for size in (1, 3, 100):
        extractor = FeatureExtractor(whole.encoder, whole.transform, batch_size=size)
        equal(extractor(paths), expected)
    shuffled = whole(paths[::-1])
    equal(shuffled.select(range(6, -1, -1)), expected)


@pytest.mark.process
def test_workers_give_the_same(tmp_path):
    (tmp_path / 'bad.png').write_text('no picture')
    paths = [*sorted(BCCD.glob('*.jpg'))[:9], tmp_path / 'bad.png', *sorted(NUCLEI.glob('*'))[:3]]
    extractor = make_extractor(batch_size=3, workers=0)
    expected = extractor(paths)
    assert list(expected.skipped) == [str(tmp_path / 'bad.png')] and len(expected) == 12
    extractor = FeatureExtractor(extractor.encoder, extractor.transform, batch_size=3, workers=2)
    found = extractor(paths)
    equal(found, expected)
    assert found.skipped == expected.skipped
    five = tmp_path / 'five.npy'
    np.save(five, np.zeros((40, 40, 5), np.uint8))
    with pytest.raises(UserError, match=r'five\.npy.*5 channels') as raised:  # not the trace of a worker
        extractor([*paths, five])
    assert 'Traceback' not in str(raised.value)


@pytest.mark.process
def test_a_batch_of_a_worker_takes_one_open_file():
    """Not one per image: of 1024 that a process may open, eight workers with two batches of 64 would leave none."""
    resource = pytest.importorskip('resource')
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    open_now = psutil.Process().num_fds()  # other tests in this process may have left some
    resource.setrlimit(resource.RLIMIT_NOFILE, (open_now + 120, before[1]))
    try:
        images = [np.full((32, 48, 3), i, np.uint8) for i in range(256)]
        found = make_extractor(batch_size=64, workers=2, levels=[1], poolings=['mean'])(images)
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, before)
    assert len(found) == 256


def test_the_mode_of_the_encoder_is_left_alone():
    extractor = make_extractor()
    extractor.encoder.train()
    path = sorted(BCCD.glob('*.jpg'))[0]
    first, second = extractor(path), extractor(path)
    equal(first, second)
    assert extractor.encoder.training


def test_images_of_all_kinds(tmp_path):
    """Gray, palette, alpha and one pixel: as the transform makes colors of them. In memory: as from the file."""
    rng = np.random.default_rng(0)
    color = rng.integers(0, 256, (40, 60, 3), np.uint8)
    Image.fromarray(color).save(tmp_path / 'a.png')
    Image.fromarray(color[..., 0]).save(tmp_path / 'gray.png')
    Image.fromarray(color).convert('P').save(tmp_path / 'palette.png')
    Image.fromarray(np.dstack([color, color[..., :1]])).save(tmp_path / 'alpha.png')
    Image.fromarray(color[:1, :1]).save(tmp_path / 'pixel.png')
    np.save(tmp_path / 'array.npy', color)
    extractor = make_extractor()
    found = extractor(tmp_path)
    assert found.names == ('a.png', 'alpha.png', 'array.npy', 'gray.png', 'palette.png', 'pixel.png')
    assert not found.skipped and all(np.isfinite(values).all() for values in found.features.values())
    row = dict(zip(found.names, found['level4.mean'], strict=True))
    np.testing.assert_allclose(row['array.npy'], row['a.png'], rtol=1e-5, atol=1e-5)
    np.testing.assert_allclose(row['alpha.png'], row['a.png'], rtol=1e-5, atol=1e-5)
    mixed = extractor([color, Image.fromarray(color), color[..., 0], tmp_path / 'a.png'])
    assert mixed.names == ('image 0', 'image 1', 'image 2', str(tmp_path / 'a.png'))
    for index in (0, 1, 3):
        np.testing.assert_allclose(mixed['level4.mean'][index], row['a.png'], rtol=1e-5, atol=1e-5)
    np.testing.assert_allclose(mixed['level4.mean'][2], row['gray.png'], rtol=1e-5, atol=1e-5)
    assert extractor(color).names == ('image 0',) and extractor(tmp_path / 'a.png').names == (str(tmp_path / 'a.png'),)


def test_numbers_of_16_bits_and_other_channels(tmp_path):
    rng = np.random.default_rng(0)
    deep = rng.integers(0, 1 << 16, (40, 60), np.uint16)
    Image.fromarray(deep).save(tmp_path / 'deep.png')
    encoder = make_encoder({**CONVNEXT, 'in_chans': 1})
    found = FeatureExtractor(encoder, make_transform(1, dtype='uint16'))(tmp_path)
    assert found.sizes.tolist() == [[40, 60]] and np.ptp(found['level1.max']) > 0
    with pytest.raises(UserError, match='deep.png holds numbers of uint16, and the encoder was trained on uint8'):
        FeatureExtractor(encoder, make_transform(1))(tmp_path)
    five = make_encoder({**CONVNEXT, 'in_chans': 5})
    array = rng.integers(0, 256, (40, 60, 5), np.uint8)
    assert len(FeatureExtractor(five, make_transform(5))([array, array])) == 2
    with pytest.raises(UserError, match='5 channels'):
        make_extractor()(array)


def test_broken_images_are_skipped_with_their_reasons(tmp_path):
    good = sorted(BCCD.glob('*.jpg'))[:3]
    (tmp_path / 'empty.jpg').touch()
    (tmp_path / 'half.jpg').write_bytes(good[0].read_bytes()[:2000])
    (tmp_path / 'nowhere.png').symlink_to(tmp_path / 'missing.png')
    np.save(tmp_path / 'nan.npy', np.full((8, 8), np.nan, np.float32))
    for path in good:
        (tmp_path / path.name).write_bytes(path.read_bytes())
    extractor = make_extractor(batch_size=2)
    found = extractor(tmp_path)
    assert found.names == tuple(path.name for path in good)
    assert set(found.skipped) == {'empty.jpg', 'half.jpg', 'nowhere.png', 'nan.npy'} and all(found.skipped.values())
    equal(extractor(good), found.select([0, 1, 2]).__class__(tuple(map(str, good)), found.features, found.sizes))
    assert not extractor.skipped  # of the last call alone
    for path in good:
        (tmp_path / path.name).unlink()
    with pytest.raises(UserError, match=r'None of 4 images can be read; empty\.jpg: '):
        extractor(tmp_path)


def test_the_limits_are_those_of_the_transform():
    transform = make_transform()
    limited = EncoderTransform(transform.preparation, ImageLimits(1000))
    with pytest.raises(UserError, match='None of 1 image can be read'):
        FeatureExtractor(make_encoder(CONVNEXT), limited)(sorted(BCCD.glob('*.jpg'))[0])


def test_there_must_be_images(tmp_path):
    with pytest.raises(UserError, match='There are no images'):
        make_extractor()([])
    with pytest.raises(UserError, match='has no images'):
        make_extractor()(tmp_path)
    with pytest.raises(UserError, match='There is no image or folder'):
        make_extractor()(tmp_path / 'missing.png')


def test_names_are_those_below_one_folder(tmp_path):
    for name in ('b/2.png', 'a/1.png'):
        (tmp_path / name).parent.mkdir()
        Image.new('RGB', (8, 8)).save(tmp_path / name)
    assert list_items(tmp_path)[1] == ['a/1.png', 'b/2.png'] and list_items(f'{tmp_path}/')[1] == ['a/1.png', 'b/2.png']
    two = list_items([tmp_path / 'b', tmp_path / 'a'])[1]
    assert two == [str(tmp_path / 'b' / '2.png'), str(tmp_path / 'a' / '1.png')]


def test_sizes_that_differ_need_batches_of_one():
    paths = [sorted(BCCD.glob('*.jpg'))[0], sorted(NUCLEI.glob('*'))[0]]
    encoder, transform = make_encoder(CONVNEXT), partial(make_transform(), resize=False)
    shapes = [batch.imgs.shape[2:] for batch in FeatureExtractor(encoder, transform, batch_size=1).encode(paths)]
    assert shapes[0] == (168, 224) and shapes[1] != (168, 224)
    with pytest.raises(UserError, match=r'Images of \d+x\d+ and \d+x\d+ pixels are in one batch: set batch_size=1'):
        list(FeatureExtractor(encoder, transform).encode(paths))


def test_other_errors_keep_their_trace():
    def fail(image):
        raise ZeroDivisionError('a bug')

    with pytest.raises(ZeroDivisionError):
        FeatureExtractor(make_encoder(CONVNEXT), fail)(sorted(BCCD.glob('*.jpg'))[0])

    def skip(image):
        raise BrokenImageError('a', 'too dark')

    with pytest.raises(UserError, match='too dark'):
        FeatureExtractor(make_encoder(CONVNEXT), skip)(sorted(BCCD.glob('*.jpg'))[0])


def test_the_hash_follows_weights_and_settings_alone():
    encoder = make_encoder(ENCODERS['ViT'])
    before = hash_weights(encoder)
    assert hash_weights(encoder.train()) == before and len(before) == 16
    same = build(Encoder, dict(ENCODERS['ViT']))
    same.load_state_dict(encoder.state_dict())
    assert hash_weights(same) == before
    other = build(Encoder, {**ENCODERS['ViT'], 'num_heads': 4})  # the same parameters, other vectors
    other.load_state_dict(encoder.state_dict())
    assert hash_weights(other) != before
    with torch.no_grad():
        next(same.parameters()).view(-1)[0] += 1
    assert hash_weights(same) != before
    norm = nn.BatchNorm1d(2)
    before = hash_weights(norm)
    norm.running_mean += 1
    assert hash_weights(norm) != before and json.dumps(before)
