"""The report of reconstruction biases: a planted one is found, none is invented, and its numbers are right."""

import math

import numpy as np
import pytest
import torch

from mae_toolkit.errors import UserError
from mae_toolkit.evaluation.reconstruction_bias import SetMeasurer, report_bias
from mae_toolkit.evaluation.reconstruction_bias.baseline import interpolate_visible
from mae_toolkit.evaluation.reconstruction_bias.compare import HARD, UNKNOWN, UNTESTED, compare_families, make_draws
from mae_toolkit.evaluation.reconstruction_bias.errors import INVISIBLE, measure_errors
from mae_toolkit.evaluation.reconstruction_bias.families import BinSums, Family
from mae_toolkit.evaluation.reconstruction_bias.patterns import COLORS, TEXTURES, describe_cells, name_places
from mae_toolkit.evaluation.reconstruction_bias.ratios import draw_images, estimate_ratio, rank_correlation
from mae_toolkit.evaluation.reconstruction_bias.sentences import describe_bins
from mae_toolkit.evaluation.reconstruction_bias.spectrum import measure_spectrum, name_bands
from mae_toolkit.models.mask_ops import upsample
from parts import ENCODERS, images, make_model
from planted_bias import KINDS, UNIT, draw_image, measure, train_model

PLANTED = 'medium vertical stripes'
CODES = {'target': {'type': 'CodebookTarget', 'num_codes': 12}, 'losses': [{'type': 'MaskedCrossEntropyLoss'}]}
FAMILIES = ('ViT', 'Eva, DINOv3', 'ConvNeXt V2', 'SparseCNN', 'Hiera, resolution kept', 'Swin V2')
HOG = {'target': {'type': 'HOGTarget', 'cell': 4}, 'losses': [{'type': 'MaskedL2Loss'}]}


@pytest.fixture(scope='module', params=[KINDS[:3], KINDS], ids=['without the texture', 'with the texture'])
def planted(request):
    """The kinds a model was trained on, and the errors of it on all kinds and on those of the training."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    model = train_model(request.param)
    found = measure(model, KINDS, 20, 1, labeled=True), measure(model, request.param, 25, 2, labeled=True)
    torch.set_num_threads(threads)
    return request.param, *found


@pytest.mark.slow
def test_a_texture_or_class_that_was_not_trained_is_the_top_finding_and_else_there_is_none(planted):
    kinds, user, reference = planted
    report = report_bias(user, reference, UNIT)
    names = [(one.family, one.bin) for one in report.unknown]
    if 'vertical' in kinds:
        assert not names and report.findings[0].startswith('No bias found: none of ')
        return
    assert {('texture', PLANTED), ('class', 'vertical')} == set(names[:2])
    top = report.unknown[0]
    assert top.is_missing and top.relative_ratio.corrected[0] > 1.3 and top.excess.corrected[0] > 1.3
    first = [one.partition('. ')[0] for one in report.findings[:2]]
    assert set(first) == {f'Unknown to the model: {what}' for what in (f'texture "{PLANTED}"', 'class "vertical"')}
    assert not any(family in ('color', 'position') for family, _ in names)
    numbers = report.to_dict()
    assert set(numbers['unknown'][:2]) == {f'texture: {PLANTED}', 'class: vertical'}
    stripes = [image for image in report.images if image.name.startswith('vertical')]
    assert np.mean([image.percentile for image in stripes]) > 75


def make_family(seed, factors=(1.0,) * 4, contrasts=(1.0,) * 4, training=None, images=40):
    """A family of four patterns; in the set, the errors of the model and of both are multiplied by numbers."""
    rng = np.random.default_rng(seed)

    def make_sums(count, model, both):
        cells = rng.poisson(30, (count, 4)) + 1.0
        difficulty = rng.lognormal(0, 0.5, (count, 1)) * np.array(both)  # of an image, for anyone
        baseline = cells * difficulty * rng.lognormal(0, 0.2, (count, 4))
        return BinSums(baseline * 0.5 * np.array(model) * rng.lognormal(0, 0.2, (count, 4)), baseline, cells)

    user, reference = make_sums(images, factors, contrasts), make_sums(images + 10, (1.0,) * 4, (1.0,) * 4)
    counts = reference.cells.sum(0) if training is None else np.array(training)
    return Family('texture', tuple('abcd'), user, reference, counts)


def compare_family(family):
    return compare_families([family], make_draws(len(family.user.cells), len(family.reference.cells)))


def test_patterns_are_named_by_chance_in_fewer_than_one_of_twenty_reports():
    named = [any(one.verdict == UNKNOWN for one in compare_family(make_family(seed))) for seed in range(40)]
    assert sum(named) <= 2


def test_what_is_hard_for_anyone_is_told_apart_from_what_the_model_does_not_know():
    found = compare_family(make_family(1, factors=(1, 2, 1, 1), contrasts=(1, 1, 3, 1)))
    assert [one.verdict for one in found] == ['no bias found', UNKNOWN, HARD, 'no bias found']
    assert found[1].relative_ratio.value == pytest.approx(2, rel=0.2)
    assert found[2].error_ratio.value == pytest.approx(3, rel=0.4)
    assert found[2].relative_ratio.value == pytest.approx(1, rel=0.2)
    for one in found:
        for ratio in (one.error_ratio, one.relative_ratio, one.excess):
            low, high = ratio.corrected
            assert low < ratio.interval[0] < ratio.value < ratio.interval[1] < high


def test_a_set_that_is_worse_everywhere_has_no_pattern_that_stands_out():
    assert all(one.verdict != UNKNOWN for one in compare_family(make_family(2, factors=(2, 2, 2, 2))))


def test_a_pattern_that_the_training_lacks_is_compared_with_everything():
    family = make_family(3, factors=(1, 1, 1, 3), training=(100, 100, 100, 1))
    family.reference.cells[:, 3] = family.reference.model[:, 3] = family.reference.baseline[:, 3] = 0
    one = compare_family(family)[3]
    own, others = family.user, family.reference
    ratio = own.model[:, 3].sum() / own.baseline[:, 3].sum() / (others.model.sum() / others.baseline.sum())
    assert one.is_missing and one.verdict == UNKNOWN and one.relative_ratio.value == pytest.approx(ratio)
    common = Family('texture', tuple('abcd'), family.user, family.reference, np.full(4, 100))
    assert compare_family(common)[3].verdict == UNTESTED  # common, but there is nothing to compare with


def test_intervals_are_wide_enough_over_images():
    """95 of 100 intervals hold the true ratio, although cells of an image are alike."""
    rng, hits = np.random.default_rng(0), 0
    for seed in range(200):
        sums = [rng.lognormal(0, 0.5, 30) * 40 for _ in range(2)]
        logs = np.log([draw_images(30, 200, 2 * seed + i) @ x for i, x in enumerate(sums)])
        low, high = estimate_ratio(logs[0] - logs[1], 30, 1).interval
        hits += low <= 1 <= high
    assert 0.9 <= hits / 200 <= 0.99


def test_few_images_and_many_tests_make_wide_intervals():
    logs = np.concatenate([[0.3], np.random.default_rng(0).normal(0.3, 0.1, 1000)])
    few, many, corrected = (estimate_ratio(logs, *numbers) for numbers in ((5, 1), (100, 1), (100, 40)))
    assert few.interval[0] < many.interval[0] and corrected.corrected[0] < many.corrected[0] == many.interval[0]
    assert corrected.interval == many.interval
    reach = 1.9842 * logs[1:].std(ddof=1)  # Student's t of 99 degrees of freedom
    assert many.interval[1] == pytest.approx(math.exp(0.3 + reach), rel=1e-4)
    assert estimate_ratio(np.full(11, np.nan), 5, 1) is None


def test_a_report_that_could_compare_nothing_says_so():
    (found,) = describe_bins([], [], tests=0)
    assert found == 'No pattern could be compared: each takes 5 images and 20 hidden cells in both sets.'
    assert describe_bins([], [], tests=9) == [
        'No bias found: none of 9 patterns has an error that stands out beyond chance.'
    ]


def test_rank_correlations():
    assert rank_correlation(np.array([1.0, 2, 3, 9]), np.array([5.0, 4, 3, 1])) == pytest.approx(-1)
    assert rank_correlation(np.array([1.0, 2, 2, 4]), np.array([1.0, 3, 2, np.nan])) == pytest.approx(math.sqrt(3) / 2)
    assert math.isnan(rank_correlation(np.ones(4), np.arange(4.0)))


def test_interpolation_sees_nothing_hidden_and_leaves_the_visible():
    torch.manual_seed(0)
    x, hidden = torch.randn(2, 3, 24, 40), torch.rand(2, 1, 24, 40) < 0.7
    filled = interpolate_visible(x.masked_fill(hidden, float('nan')), hidden)
    assert torch.equal(filled[~hidden.expand_as(x)], x[~hidden.expand_as(x)]) and filled.isfinite().all()
    assert filled.amax() <= x.amax() and filled.amin() >= x.amin()
    torch.testing.assert_close(interpolate_visible(torch.full_like(x, 3.0), hidden), torch.full_like(x, 3.0))
    ramp = torch.arange(40.0).expand(1, 1, 24, 40)
    cells = upsample(torch.rand(1, 1, 6, 10) < 0.5, (24, 40))
    assert (interpolate_visible(ramp, cells) - ramp).abs().mean() < 2


@pytest.mark.parametrize('target', ['PixelTarget', 'PixelTarget normalized', 'LaplacianTarget'])
def test_errors_are_those_of_the_pictures(target):
    """Against reconstruct(), cell by cell; the parts by frequency and channel add up to the whole."""
    from mae_toolkit.visualization.reconstruction import reconstruct

    model, x = make_model(target=target).eval(), images()
    mask = model.masking(x)
    found = measure_errors(model, x, mask)
    shown = reconstruct(model, x, mask)
    picture = shown.predicted if shown.informed is None else shown.informed
    for own, other in ((found.model, picture), (found.baseline, None)):
        for b in range(2):
            for row, column in mask[b, 0].nonzero().tolist():
                place = (b, slice(None), slice(8 * row, 8 * row + 8), slice(8 * column, 8 * column + 8))
                if other is None:
                    guess = interpolate_visible(x, upsample(mask, x.shape[-2:]))[place]
                    guess = guess - guess.mean() + x[place].mean() if 'normalized' in target else guess
                else:
                    guess = other[place]
                wanted = (guess - x[place]).square().mean() + INVISIBLE
                assert own[b, row * 6 + column].item() == pytest.approx(wanted.item(), rel=1e-4)
    assert found.model[mask.flatten(1).logical_not()].abs().max() == 0
    for part, whole in zip(found.spectrum, (found.model, found.baseline), strict=True):
        torch.testing.assert_close(part.sum(1), whole.sum(1), rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(found.channels.mean(2), torch.stack([found.model, found.baseline]).sum(2))


def test_waves_fall_into_the_bands_of_their_lengths():
    mask = torch.ones(1, 1, 2, 2, dtype=torch.bool)
    for pixels, band in ((1e9, 0), (16, 1), (8, 2), (4, 3), (2, 4)):
        wave = torch.cos(2 * math.pi * (torch.arange(32.0) + 0.5) / pixels + (math.pi / 4 if pixels == 2 else 0))
        energy = measure_spectrum(wave.expand(1, 1, 1, 32, 32), mask, 0.0)[0, 0]
        assert energy.argmax() == band and energy[band] > 0.9 * energy.sum(), name_bands(16)[band]
    assert len(name_bands(16)) == 5 and name_bands(16)[-1] == 'waves shorter than 2.67 px'


def test_textures_colors_and_places_have_their_names():
    rng = np.random.default_rng(0)
    y, x = np.mgrid[:16, :16]
    drawn = {
        'smooth areas': 0 * x,
        'vertical edges': 1.0 * (x > 7),
        'horizontal edges': 1.0 * (y > 7),
        'medium vertical stripes': np.sin(2 * math.pi * x / 8),
        'fine horizontal stripes': np.sin(2 * math.pi * y / 4),
        'fine rising diagonal stripes': np.sin(2 * math.pi * (x + y) / 6),
        'fine falling diagonal stripes': np.sin(2 * math.pi * (x - y) / 6),
        'fine patterns, undirected': rng.normal(0, 1, (16, 16)),
        'blobs and corners': np.exp(-((x - 7.5) ** 2 + (y - 7.5) ** 2) / 40),
    }
    imgs = torch.from_numpy(np.concatenate(list(drawn.values()), 1)).float()[None, None]
    found = describe_cells(imgs, 16, None)
    assert [TEXTURES[number] for number in found.texture[0]] == list(drawn) and found.color is None
    rgb = [
        (0.9, 0.1, 0.1),
        (0.9, 0.9, 0.1),
        (0.1, 0.8, 0.2),
        (0.1, 0.1, 0.9),
        (0.9, 0.1, 0.8),
        (0.5, 0.5, 0.5),
        (0, 0, 0),
    ]
    colors = torch.tensor(rgb).T[None, :, None].repeat_interleave(4, 2).repeat_interleave(4, 3)
    names = [COLORS[number] for number in describe_cells(colors, 4, colors).color[0]]
    assert names == ['red', 'yellow', 'green', 'blue', 'magenta', 'gray', 'black or dark gray']
    assert name_places(3, 6).tolist() == [0, 0, 1, 1, 2, 2, 3, 3, 4, 4, 5, 5, 6, 6, 7, 7, 8, 8]
    assert name_places(1, 1).tolist() == [4] and name_places(2, 2).tolist() == [0, 2, 6, 8]


def test_masks_follow_the_number_of_an_image_alone():
    model, x = make_model().eval(), images(5)
    whole, parts = (SetMeasurer(model, masks=2, seed=3, has_colors=False) for _ in range(2))
    whole.add(x, range(5))
    parts.add(x[:2], range(2))
    parts.add(x[2:], range(2, 5))
    one, other = (measurer.finish(list('abcde'), None) for measurer in (whole, parts))
    assert np.array_equal(one.hidden, other.hidden) and one.hidden.max() == 2
    np.testing.assert_allclose(one.model, other.model, rtol=1e-4)
    assert not np.array_equal(one.hidden[0], one.hidden[1])


@pytest.mark.parametrize('channels', [1, 5])
@pytest.mark.parametrize('encoder', FAMILIES)
def test_every_encoder_and_any_channels(encoder, channels):
    config = ENCODERS[encoder] | {'in_chans': channels}
    model = make_model(encoder=config, decoder='TransformerDecoder').eval()
    measurer = SetMeasurer(model, masks=1, has_colors=False)
    for start in (0, 4):
        measurer.add(images(4, channels, (64, 96), seed=start), range(start, start + 4))
    one = measurer.finish([str(number) for number in range(8)], list('abababab'))
    report = report_bias(one, one, model.masking.unit)
    families = {found.family for found in report.bins}
    assert families == {'spatial frequency', 'edge strength', 'texture', 'intensity', 'position', 'class'} | (
        {'channel'} if channels > 1 else set()
    )
    assert not report.unknown and report.overall.value == pytest.approx(1)
    assert one.hidden.sum() == 8 * model.masking.count_hidden(one.hidden.shape[1])


def test_a_target_without_a_picture_has_errors_of_its_own():
    model, x = make_model(objectives={'codes': CODES, 'hog': HOG}).eval(), images()
    mask = model.masking(x)
    found = measure_errors(model, x, mask)
    target, prediction = model.objectives['hog'].target(x), model(x, mask=mask, mode='predict')[0]['hog']
    wanted = ((prediction - target).square().mean(1).flatten(1) + INVISIBLE) * mask.flatten(1)
    torch.testing.assert_close(found.model, wanted.detach())
    assert found.spectrum is None and (found.baseline[mask.flatten(1)] > 0).all()


def test_what_cannot_be_measured_is_refused():
    model = make_model(objectives={'codes': CODES}).eval()
    with pytest.raises(UserError, match=r'codes alone \(codes: CodebookTarget\)'):
        measure_errors(model, images(), model.masking(images()))
    model = make_model().eval()
    measurer = SetMeasurer(model, has_colors=False)
    measurer.add(images(3), range(3))
    few = measurer.finish(list('abc'), None)
    with pytest.raises(UserError, match='Your images: 3 images.*8 or more'):
        report_bias(few, few, 8)


def test_the_images_of_the_planted_set_are_what_they_are_called():
    cells = describe_cells(torch.from_numpy(draw_image('vertical', np.random.default_rng(0)))[None], UNIT, None)
    assert {TEXTURES[number] for number in cells.texture[0]} == {PLANTED}
