"""What parts take from each other: what a class says, and never in the place of what a user wrote."""

from dataclasses import FrozenInstanceError, replace

import pytest

from mae_toolkit.errors import UserError
from mae_toolkit.models import Decoder, Loss, Masking, PictureLoss, PixelTarget, RandomMasking, Target
from mae_toolkit.models.wiring import Wiring, wired_arguments
from mae_toolkit.registry import MODELS, build, list_arguments, list_names
from parts import ENCODERS, WIRING, make_model

NORMALIZED = replace(WIRING, mean=(1.0, 2.0, 3.0), std=(4.0, 5.0, 6.0), grid=(4, 6))
PREPROCESSOR = {'type': 'mae_toolkit.ImagePreprocessor', 'mean': [1.0, 2.0, 3.0], 'std': [4.0, 5.0, 6.0]}


class OwnTarget(Target):
    """Arguments that happen to be called as those of the toolkit's parts."""

    channels = 1

    def __init__(self, patch=2, mean=0.0, unit=5, stride=4):
        super().__init__()
        self.given = (patch, mean, unit)
        self.stride = stride


class OwnMasking(RandomMasking):
    """Own arguments beside those of the base class, whose unit it takes."""

    def __init__(self, mean=0.0, patch=2, **kwargs):
        super().__init__(**kwargs)
        self.given = (mean, patch)


class OwnPixels(PixelTarget):
    """A default of its own in the place of what the base class takes."""

    def __init__(self, patch=2, **kwargs):
        super().__init__(patch, **kwargs)


class OwnLoss(PictureLoss):
    """An argument without a default that the base class takes."""

    def __init__(self, target, mean=0.5):
        super().__init__(target)
        self.mean = mean


class Taking(OwnMasking):
    """The same arguments, taken from the model."""

    takes = dict(mean='mean', patch='stride')

    def __init__(self, mean=None, patch=None, **kwargs):
        super().__init__(mean, patch, **kwargs)


def test_an_argument_of_ones_own_is_not_filled_whatever_its_name():
    assert build(Target, {'type': OwnTarget}, NORMALIZED).given == (2, 0.0, 5)
    masking = build(Masking, {'type': OwnMasking}, NORMALIZED)
    assert (masking.given, masking.unit) == ((0.0, 2), 8)
    assert build(Target, {'type': OwnPixels}, NORMALIZED).stride == 2
    loss = build(Loss, {'type': OwnLoss}, replace(NORMALIZED, target=PixelTarget(8)))
    assert (loss.mean, loss.stride) == (0.5, 8)


def test_the_same_in_a_model():
    model = make_model(masking={'type': OwnMasking}, target={'type': OwnTarget}, data_preprocessor=PREPROCESSOR)
    assert model.masking.given == (0.0, 2) and model.masking.unit == 8
    assert model.objectives['pixel'].target.given == (2, 0.0, 5)


def test_what_a_class_takes_is_filled():
    masking = build(Masking, {'type': Taking}, NORMALIZED)
    assert (masking.given, masking.unit) == (((1.0, 2.0, 3.0), 8), 8)
    assert wired_arguments(Taking) == {'mean': 'mean', 'patch': 'stride', 'unit': 'unit'}


@pytest.mark.parametrize(('written', 'given'), [({'patch': 2}, 2), ({'mean': 0.0}, 0.0), ({'mean': None}, None)])
def test_what_a_config_sets_is_never_replaced(written, given):
    masking = build(Masking, {'type': Taking, **written}, NORMALIZED)
    assert masking.given['patch' in written] == given
    assert build(Masking, {'type': 'RandomMasking', 'unit': 16}, NORMALIZED).unit == 16


def test_what_is_not_known_leaves_the_default():
    assert build(Masking, {'type': 'RandomMasking'}, Wiring()).unit == 16
    loss = build(Loss, {'type': 'SSIMLoss', 'data_range': 1.0}, Wiring(target=PixelTarget(8)))
    assert loss.mean.tolist() == [[[0.0]]]


@pytest.mark.parametrize(
    ('takes', 'sentence'),
    [
        (dict(patch='strid'), "takes has patch='strid', .* no field 'strid'; did you mean stride"),
        (dict(patches='stride'), "takes has patches='stride', .* no argument 'patches'; did you mean patch"),
    ],
)
def test_entries_that_can_fill_nothing_are_refused(takes, sentence):
    kind = type('Own', (OwnTarget,), {'takes': takes, '__init__': OwnTarget.__init__})
    with pytest.raises(UserError, match=sentence):
        build(Target, {'type': kind}, WIRING)


def test_an_argument_that_nobody_gives_is_a_sentence():
    with pytest.raises(UserError, match="PixelTarget needs the argument 'patch'"):
        build(Target, {'type': 'PixelTarget'})


@pytest.mark.parametrize('role', [Masking, Decoder, Target, Loss])
def test_every_part_takes_what_exists_and_gets_it_in_a_model(role):
    for name in list_names(role):
        wired_arguments(MODELS.get(name))  # refuses an entry that can fill nothing


def test_a_model_knows_its_wiring():
    model = make_model(masking={'type': 'RandomMasking', 'unit': 16}, data_preprocessor=PREPROCESSOR)
    expected = Wiring((1.0, 2.0, 3.0), (4.0, 5.0, 6.0), 3, ENCODERS['ViT'], (24,), (8,), (4, 6), 16)
    assert model.wiring == expected and model.wiring.stride == 8
    with pytest.raises(FrozenInstanceError):
        model.wiring.unit = 8


def test_the_numbers_reach_all_parts():
    """Each with a default that differs, so that a part that is left out shows."""
    model = make_model(
        encoder=ENCODERS['ViT'] | {'in_chans': 4},
        masking={'type': 'AttentionMasking', 'network': ENCODERS['ViT'] | {'in_chans': 4}, 'network_mean': [0] * 4}
        | {'network_std': [1] * 4},
        loss={'type': 'SSIMLoss'},
        data_preprocessor={'type': 'mae_toolkit.ImagePreprocessor', 'mean': [9.0] * 4, 'std': [50.0] * 4},
    )
    assert model.masking.unit == 8 and model.masking.network.scale.flatten().tolist() == [50.0] * 4
    assert model.objectives['pixel'].target.channels == 4 * 64
    assert model.objectives['pixel'].losses[0].mean.flatten().tolist() == [9.0] * 4
    assert model.decoder.positions.grid == (4, 6)


def test_a_wiring_that_fills_by_name_is_caught(monkeypatch):
    """The fault of old: every argument that is called as a field, whoever wrote it."""

    fill = Wiring.arguments_for

    def by_name(self, cls):
        known = {'patch': self.stride, 'mean': self.mean, 'unit': self.unit}
        return fill(self, cls) | {name: value for name, value in known.items() if name in list_arguments(cls)}

    monkeypatch.setattr(Wiring, 'arguments_for', by_name)
    for law in (test_an_argument_of_ones_own_is_not_filled_whatever_its_name, test_the_same_in_a_model):
        with pytest.raises(AssertionError):
            law()


def test_a_wiring_that_replaces_what_a_config_sets_is_caught(monkeypatch):
    class Last(dict):
        def __or__(self, other):
            return dict(other) | dict(self)

    fill = Wiring.arguments_for
    monkeypatch.setattr(Wiring, 'arguments_for', lambda self, cls: Last(fill(self, cls)))
    with pytest.raises(AssertionError):
        test_what_a_config_sets_is_never_replaced({'patch': 2}, 2)
