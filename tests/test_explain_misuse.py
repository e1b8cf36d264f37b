"""Explanations of what says nothing: broken weights, equal images, one set twice; and what a call leaves behind."""

import argparse

import numpy as np
import pytest
import torch
from PIL import Image

from anomaly_sets import make_image
from mae_toolkit.apis import (
    Reconstructor,
    explain_attention,
    explain_attention_distance,
    explain_bias,
    explain_cka,
    explain_components,
    explain_dependence,
    explain_map,
    explain_receptive_field,
    explain_reconstruction,
)
from mae_toolkit.apis.explain import read_components
from mae_toolkit.argument_types import seed_number
from mae_toolkit.downstream.encoder_transform import EncoderTransform
from mae_toolkit.errors import UserError
from mae_toolkit.evaluation.embeddings import FeatureExtractor
from mae_toolkit.evaluation.embeddings.reading import read_batches
from mae_toolkit.export.preparation import Preparation
from mae_toolkit.models import ImagePreprocessor
from parts import make_encoder, make_model

MEAN, STD = (127.5,) * 3, (63.75,) * 3
OF_ENCODERS = [
    explain_attention,
    explain_attention_distance,
    explain_cka,
    explain_components,
    explain_map,
    explain_receptive_field,
]
PHOTOS = [make_image(seed, (32, 48)) for seed in range(8)]


def make_extractor():
    return FeatureExtractor(make_encoder('ViT').eval(), EncoderTransform(Preparation(MEAN, STD, (32, 48), None)))


def make_autoencoder():
    model = make_model().eval()
    model.data_preprocessor = ImagePreprocessor(MEAN, STD)
    return model


def break_weights(module):
    """Make what a module computes not a number, as where a sum overflows."""
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.fill_(float('nan'))


@pytest.mark.parametrize('explain', OF_ENCODERS, ids=lambda function: function.__name__)
def test_an_encoder_that_computes_no_numbers_is_refused(explain):
    extractor = make_extractor()
    break_weights(extractor.encoder)
    with pytest.raises(UserError, match='not finite'):
        explain(extractor, PHOTOS)


@pytest.mark.parametrize('explain', [explain_dependence, explain_reconstruction])
def test_a_model_that_computes_no_numbers_is_refused(explain):
    model = make_autoencoder()
    break_weights(model.encoder)
    with pytest.raises(UserError, match='not finite'):
        explain(model, PHOTOS)


def test_a_model_that_computes_no_numbers_is_not_said_to_be_without_bias():
    model = make_autoencoder()
    break_weights(model.decoder)
    with pytest.raises(
        UserError, match=r'predictions for 8 of 8 images \(your images\) are not finite, such as .*image 0'
    ):
        explain_bias(model, PHOTOS, PHOTOS)


def test_components_that_are_given_color_nothing_that_is_no_number():
    extractor = make_extractor()
    found = explain_components(extractor, PHOTOS[:2])
    maps = torch.full((24, 4, 6), float('nan'))
    with pytest.raises(UserError, match='not finite'):
        read_components(found.numbers)[1].color([maps])


def test_equal_images_have_no_similarities():
    with pytest.raises(UserError, match='All 5 images are the same to every layer'):
        explain_cka(make_extractor(), [PHOTOS[0]] * 5)


def test_a_layer_that_is_the_same_for_all_images_is_named():
    extractor = make_extractor()
    with torch.no_grad():
        for name, parameter in extractor.encoder.named_parameters():
            if 'patch_embed' in name and name.endswith('weight'):
                parameter.zero_()
    other = make_extractor()
    with pytest.raises(UserError, match='the same to every layer'):
        explain_cka(extractor, PHOTOS)
    with pytest.raises(UserError, match='the same to every layer'):
        explain_cka(extractor, PHOTOS, other=other)  # no pair has a number


def test_what_a_loaded_thing_would_ignore_is_refused():
    extractor = make_extractor()
    for options, word in (({'size': 64}, 'size'), ({'encoder': 'vit_tiny_patch16_224'}, 'encoder')):
        with pytest.raises(UserError, match=f'{word}: this FeatureExtractor is loaded already'):
            explain_attention(extractor, PHOTOS[:1], **options)
    reconstructor = Reconstructor(make_autoencoder(), seed=3)
    for options in ({'ratio': 0.5}, {'masking': 'BlockMasking'}, {'short_side': 64}, {'seed': 1}, {'config': 'a.py'}):
        with pytest.raises(UserError, match=f'{next(iter(options))}: this Reconstructor is loaded already'):
            explain_dependence(reconstructor, PHOTOS[:1], **options)
    explain_dependence(reconstructor, PHOTOS[:1], seed=3, draws=1)
    with pytest.raises(UserError, match='config: this MaskedAutoencoder'):
        explain_dependence(reconstructor.model, PHOTOS[:1], config='a.py')


def test_images_may_come_one_by_one():
    extractor = make_extractor()
    found = explain_components(extractor, (photo for photo in PHOTOS[:3]))
    assert found.numbers == explain_components(extractor, PHOTOS[:3]).numbers


@pytest.mark.slow
def test_images_that_were_left_out_are_counted():
    extractor, model = make_extractor(), make_autoencoder()
    note = 'Of 8 images, 4 were used, evenly chosen; most (--max-images) sets how many.'
    for explain in OF_ENCODERS:
        if explain is not explain_map:  # which takes all
            assert explain(extractor, PHOTOS, most=4).caption.endswith(f'. {note}')
            assert 'were used' not in explain(extractor, PHOTOS, most=8).caption
    assert explain_reconstruction(model, PHOTOS, most=4, ratios=[0.5]).caption.endswith(f'. {note}')
    assert explain_dependence(model, PHOTOS, most=4, draws=1).caption.endswith(f'. {note}')


@pytest.mark.slow
def test_sets_that_hold_the_same_images_are_told(tmp_path):
    model, paths = make_autoencoder(), []
    for number in range(20):
        paths.append(tmp_path / f'{number}.png')
        Image.fromarray(make_image(number, (32, 48))).save(paths[-1])
    (tmp_path / 'link.png').symlink_to(paths[11])
    found = explain_bias(model, [*paths[:9], tmp_path / 'link.png'], paths[8:], most=8, masks=1)
    assert found.numbers['notes'] == [
        'Of 10 images (your images), 8 were used, evenly chosen; most (--max-images) sets how many.',
        'Of 12 images (the reference), 8 were used, evenly chosen; most (--max-images) sets how many.',
        '2 of your 10 images are among the reference: these are compared with themselves.',
    ]
    assert found.caption.endswith(' '.join(found.numbers['notes']))
    found = explain_bias(model, paths[:8], paths[8:16], held_out=paths[12:], masks=1)
    assert found.numbers['notes'] == ['4 of the 8 held-out images are among those of the training.']
    assert explain_bias(model, paths[:8], paths[8:16], masks=1).numbers['notes'] == []


@pytest.mark.parametrize('explain', OF_ENCODERS, ids=lambda function: function.__name__)
def test_the_random_numbers_of_the_process_are_left_alone(explain):
    torch.manual_seed(5)
    np.random.seed(5)
    before = torch.get_rng_state(), np.random.get_state()[1]
    explain(make_extractor_without_draws(), PHOTOS[:5])
    assert torch.equal(torch.get_rng_state(), before[0]) and (np.random.get_state()[1] == before[1]).all()


def make_extractor_without_draws():
    with torch.random.fork_rng():
        return make_extractor()


def test_reading_images_draws_no_random_number():
    torch.manual_seed(0)
    before = torch.get_rng_state()
    list(read_batches(PHOTOS, EncoderTransform(Preparation(MEAN, STD, (32, 48), None)), 4))
    assert torch.equal(torch.get_rng_state(), before)


def test_an_image_that_cannot_be_read_costs_only_itself(tmp_path):
    """In a folder, whose images are called by their paths within it; names and points stay together."""
    for number, photo in enumerate(PHOTOS[:6]):
        (tmp_path / 'ab'[number % 2]).mkdir(exist_ok=True)
        Image.fromarray(photo).save(tmp_path / 'ab'[number % 2] / f'{number}.png')
    (tmp_path / 'a' / '1.png').write_bytes(b'no image')
    extractor = make_extractor()
    found = explain_map(extractor, tmp_path, thumbnails=3)
    assert [point['image'] for point in found.numbers['points']] == [
        'a/0.png',
        'a/2.png',
        'a/4.png',
        'b/1.png',
        'b/3.png',
        'b/5.png',
    ]
    assert [point['label'] for point in found.numbers['points']] == ['a'] * 3 + ['b'] * 3
    assert list(found.skipped) == ['a/1.png']
    (tmp_path / 'none').mkdir()
    (tmp_path / 'none' / '1.png').write_bytes(b'no image')
    with pytest.raises(UserError, match='can be read'):
        explain_map(extractor, tmp_path / 'none')


def test_images_that_make_no_clusters_are_mapped_without_colors():
    copies = [PHOTOS[0]] * 5 + [PHOTOS[1]] * 5
    found = explain_map(make_extractor(), copies)
    assert found.numbers['color'] == 'none' and 'There are no clusters to color by' in found.caption
    with pytest.raises(UserError, match='at least 3'):
        explain_map(make_extractor(), copies, color='cluster')
    with pytest.raises(UserError, match='A map is made of 3'):
        explain_map(make_extractor(), PHOTOS[:2])


@pytest.mark.parametrize('seed', [-1, 2**32])
def test_a_seed_that_not_all_generators_take_is_refused(seed):
    message = rf'seed={seed} must be from 0 to 4294967295'
    with pytest.raises(UserError, match=message):
        explain_map(make_extractor(), PHOTOS, seed=seed)
    with pytest.raises(UserError, match=message):
        explain_bias(make_autoencoder(), PHOTOS, PHOTOS, seed=seed)
    with pytest.raises(argparse.ArgumentTypeError, match='from 0 to'):
        seed_number(str(seed))
    assert seed_number(str(2**32 - 1)) == 2**32 - 1


def test_arguments_of_the_wrong_shape_are_refused(tmp_path):
    model, extractor = make_autoencoder(), make_extractor()
    for place in ((0.5,), (0.5, 0.5, 0.5)):
        with pytest.raises(UserError, match='each is two shares'):
            explain_dependence(model, PHOTOS[:1], places=[place])
    with pytest.raises(UserError, match='"type"'):
        explain_reconstruction(model, PHOTOS[:1], maskings=[{'block': 2}])
    with pytest.raises(UserError, match='There is no file'):
        explain_components(extractor, PHOTOS[:1], components=tmp_path)
    found = explain_components(extractor, PHOTOS[:2], levels=[1, 1])
    assert [level['level'] for level in found.numbers['levels']] == [1]


def test_flat_images_have_no_endless_error_where_features_are_predicted():
    """An interpolation of no gradients is perfect: what is divided by its error must not be nothing."""
    model = make_model(target='HOGTarget').eval()
    model.data_preprocessor = ImagePreprocessor(MEAN, STD)
    flat = [np.full((32, 48, 3), 20 * number, np.uint8) for number in range(8)]
    found = explain_bias(model, flat, PHOTOS, masks=1)
    assert max(one['relative_error'] for one in found.numbers['images']) < 1000
    assert any(one['error_ratio'] is not None for one in found.numbers['bins'])


def test_classes_that_the_reference_lacks_are_not_compared_with_nothing(tmp_path):
    for number in range(16):
        folder = tmp_path / ('mine' if number < 8 else 'others') / 'ab'[number % 2]
        folder.mkdir(parents=True, exist_ok=True)
        Image.fromarray(make_image(number, (32, 48))).save(folder / f'{number}.png')
    model, mine, others = make_autoencoder(), tmp_path / 'mine', tmp_path / 'others'
    found = explain_bias(model, mine, sorted(others.glob('*/*')), masks=1).numbers
    assert all(one['family'] != 'class' for one in found['bins'])
    assert found['notes'] == ['Classes are not compared, as the reference has none: name them (reference_labels).']
    found = explain_bias(model, mine, sorted(others.glob('*/*')), masks=1, reference_labels=others).numbers
    assert sum(one['family'] == 'class' for one in found['bins']) == 2 and found['notes'] == []


def test_images_of_two_sets_that_cannot_be_read_are_both_named(tmp_path):
    for number in range(16):
        folder = tmp_path / ('mine' if number < 8 else 'others')
        folder.mkdir(exist_ok=True)
        Image.fromarray(make_image(number, (32, 48))).save(folder / f'good_{number}.png')
        (folder / 'broken.png').write_bytes(b'no image')
    model, mine, others = make_autoencoder(), tmp_path / 'mine', tmp_path / 'others'
    assert set(explain_bias(model, mine, others, masks=1).skipped) == {'broken.png', 'reference: broken.png'}
    for number in range(8):
        (tmp_path / 'none').mkdir(exist_ok=True)
        (tmp_path / 'none' / f'{number}.png').write_bytes(b'no image')
    with pytest.raises(UserError, match=r'reference.* can be read; 0\.png'):
        explain_bias(model, mine, tmp_path / 'none', masks=1)


def test_names_and_labels_are_no_formulas(tmp_path):
    path = tmp_path / '$\\frac{1$.png'
    Image.fromarray(PHOTOS[0]).save(path)
    explain_dependence(make_autoencoder(), path, draws=1)
    explain_map(make_extractor(), PHOTOS, labels=['$\\frac$', 'a'] * 4)
    paths = [tmp_path / f'{number}$\\frac${number}.png' for number in range(8)]
    for photo, other in zip(PHOTOS, paths, strict=True):
        Image.fromarray(photo).save(other)
    explain_bias(make_autoencoder(), paths, PHOTOS, masks=1)


def test_vectors_in_another_order_than_the_images_are_refused(tmp_path):
    paths = [tmp_path / f'{number}.png' for number in range(8)]
    for photo, path in zip(PHOTOS, paths, strict=True):
        Image.fromarray(photo).save(path)
    vectors = make_extractor()(tmp_path)
    assert explain_map(vectors, paths).numbers['points'] == explain_map(vectors, tmp_path).numbers['points']
    with pytest.raises(UserError, match=r'vectors of 0\.png are in the place of the image .*7\.png'):
        explain_map(vectors, paths[::-1])
    with pytest.raises(UserError, match='leave encoder and size out'):
        explain_map(vectors, paths, size=64)
