"""The examples for contributors: taken from CONTRIBUTING.md as they stand there, they pass the laws of their role."""

import ast
import re
import sys
import textwrap
from types import ModuleType

import pytest
import torch
from mmengine.config import Config

import test_compatibility
import test_laws as laws
from mae_toolkit.downstream.fit_encoder import fit_encoder
from mae_toolkit.errors import UserError
from mae_toolkit.models import Encoder, Loss, Masking, Target
from mae_toolkit.models.build import build_model
from mae_toolkit.models.compatibility import count_combinations, find_kinds, format_table
from mae_toolkit.registry import MODELS, build
from parts import ENCODERS, LOSSES, MASKINGS, TARGETS, WIRING, compares, images, make_encoder, make_model
from tiny import ROOT

PAGE = (ROOT / 'CONTRIBUTING.md').read_text()
# The file that a block of code is to stand in, and the code.
FILES = {
    path: textwrap.dedent(code) for path, code in re.findall(r'in `(\S+\.py)`:\n\n( +```python\n.*?```)', PAGE, re.S)
}
CONFIGS = {'encoders': ENCODERS, 'maskings': MASKINGS, 'targets': TARGETS}


def read_lines_of_tests():
    """Return the configs that the document adds to the tests, by name."""
    found = {}
    for block in re.findall(r'```python\n(.*?)```', PAGE, re.S):
        if block.lstrip().startswith("'"):
            found |= ast.literal_eval(f'{{{block}}}')
    return found


@pytest.fixture
def example(request, monkeypatch):
    """Name of an example's class, which is registered, and has its line in the tests, while a test runs."""
    path = next(path for path in FILES if f'/{request.param}/' in path)
    name = path.removesuffix('.py').replace('/', '.')
    module, before = ModuleType(name), set(MODELS.module_dict)
    monkeypatch.setitem(sys.modules, name, module)
    exec(compile(FILES[path].split('\n', 1)[1].rsplit('```', 1)[0], path, 'exec'), vars(module))
    (kind,) = MODELS.module_dict.keys() - before
    configs = {key: config for key, config in read_lines_of_tests().items() if config['type'] == kind}
    for key, config in configs.items():
        monkeypatch.setitem(CONFIGS[request.param], key, config)
    assert kind in configs
    compares.cache_clear()
    yield kind
    MODELS.module_dict.pop(kind)
    compares.cache_clear()


encoder = pytest.mark.parametrize('example', ['encoders'], indirect=True)
masking = pytest.mark.parametrize('example', ['maskings'], indirect=True)
target = pytest.mark.parametrize('example', ['targets'], indirect=True)


def test_every_block_of_code_is_tested():
    blocks = re.findall(r'```python\n', PAGE)
    assert len(blocks) == len(FILES) + 1  # the lines of the tests
    assert {path.split('/')[-2] for path in FILES} == set(CONFIGS)


@encoder
def test_the_encoder_has_the_announced_shapes_and_is_zero_where_hidden(example):
    laws.test_1_shapes_are_as_announced(example)
    for larger in (1, 2):
        laws.test_2_zero_where_hidden_and_nowhere_else(example, larger)


@encoder
def test_a_hidden_cell_of_the_encoder_behaves_like_the_outside_of_the_image(example):
    laws.test_3_crop_law(example)


@encoder
@pytest.mark.parametrize('size', [(32, 48), (48, 64)])
def test_the_encoder_does_the_same_where_nothing_is_hidden(example, size):
    laws.test_4_nothing_hidden_equals_timm(example, size)


@encoder
@pytest.mark.parametrize('decoder', ['TransformerDecoder', 'UNetDecoder', 'CrossAttentionDecoder'])
def test_every_parameter_of_the_encoder_learns(example, decoder):
    laws.test_5_every_trainable_parameter_has_a_gradient(example, decoder)


@encoder
@pytest.mark.parametrize('larger', [1, 2])
def test_noise_in_hidden_pixels_changes_nothing(example, larger):
    laws.test_7_noise_in_hidden_pixels_changes_nothing(example, 'TransformerDecoder', larger)


@encoder
@pytest.mark.parametrize(
    ('target', 'loss'),
    [
        ('PixelTarget normalized', 'MaskedL2Loss'),
        ('EMATarget', 'MaskedCosineLoss'),
        ('EMATarget, one level', 'MaskedCosineLoss'),
    ],
)
def test_the_encoder_trains(example, target, loss):
    laws.test_8_a_training_step_of_every_pair(example, 'ConvNeXtDecoder', 'RandomMasking', target, loss)


@encoder
def test_levels_that_the_encoder_cannot_choose_are_refused(example):
    kind = MODELS.get(example)
    assert kind.select_levels(ENCODERS[example], (0,)) == ENCODERS[example]
    with pytest.raises(UserError, match=rf'{example} has no argument out_indices, .* levels \(0, 1\): add it'):
        kind.select_levels(ENCODERS[example], (0, 1))


@encoder
def test_the_encoder_is_a_backbone_for_images_of_any_size(example):
    built = make_encoder(example)
    assert [x.shape for x in built(images(size=(35, 50)))] == [(2, 8, 5, 7)]
    depths = {name: built.layer_depth(name) for name, _ in built.named_parameters()}
    assert depths['embed.weight'] == (0, 1) and depths['mix.1.bias'] == (1, 1)
    test_compatibility.test_construction_refuses_what_the_rules_refuse_of_encoder_and_decoder(example)


@encoder
@pytest.mark.parametrize('alone', [False, True])
def test_the_encoder_is_fine_tuned_from_a_checkpoint(example, alone, tmp_path):
    """Of pretraining, or of the encoder alone."""
    pretrained = make_model(example)
    weights = (pretrained.encoder if alone else pretrained).state_dict()
    torch.save({'meta': {}, 'state_dict': weights}, tmp_path / 'weights.pth')
    model = {'type': 'Classifier', 'encoder': dict(ENCODERS['ViT']), 'num_classes': 3, 'head_norm': True}
    cfg = fit_encoder(Config({'model': model}), ENCODERS[example], tmp_path / 'weights.pth')
    classifier = build_model(cfg)
    classifier.init_weights()
    assert classifier(images()).shape == (2, 3)
    for name, value in classifier.encoder.state_dict().items():
        assert torch.equal(value, pretrained.encoder.state_dict()[name])


@encoder
def test_an_encoder_whose_base_class_hides_nothing_is_caught(example, monkeypatch):
    """What the contract leaves to the base class is needed: the law of zeros fails without it."""
    monkeypatch.setattr(Encoder, 'skips_hidden', True)
    with pytest.raises(AssertionError):
        laws.test_2_zero_where_hidden_and_nowhere_else(example, 1)


@masking
@pytest.mark.parametrize('ratio', [0.3, 0.6, 0.75])
def test_the_masking_hides_the_same_number_and_every_cell_sometimes(example, ratio):
    laws.test_6_every_image_hides_the_same_number_and_every_cell_is_hidden_sometimes(example, ratio)


@masking
def test_the_masking_has_its_unit_from_the_encoder_and_trains(example):
    assert make_model(masking=example).masking.unit == 8
    laws.test_8_a_training_step_of_every_pair('ViT', 'TransformerDecoder', example, 'PixelTarget', 'MaskedL2Loss')


@masking
def test_the_masking_does_what_it_says(example):
    masks = build(Masking, {'type': example, 'unit': 8, 'pull': 100.0})(images(4, size=(32, 48)))
    assert not masks[..., 1:3, 2:4].logical_not().any()  # the cells in the middle


@masking
def test_the_table_has_a_place_for_the_masking(example):
    assert f'{example}, ' in format_table(count_combinations())
    test_compatibility.test_it_holds_every_registered_part()


@pytest.mark.parametrize('example', CONFIGS, indirect=True)
def test_every_registered_part_is_under_test(example):
    for role, configs in ((Encoder, ENCODERS), (Masking, MASKINGS), (Target, TARGETS)):
        laws.test_every_registered_part_is_under_test(role, configs)


@target
def test_the_target_is_of_the_shape_and_kind_that_it_announces(example):
    built = build(Target, TARGETS[example], WIRING)
    assert built(images()).shape == (2, built.channels, 32 // built.stride, 48 // built.stride)
    assert built.kind == find_kinds(Target)[example].kind
    torch.testing.assert_close(built(images())[1, 2, 3, 5], images()[1, 2, 24:32, 40:48].mean())


@target
def test_the_target_goes_with_the_losses_that_the_rules_allow(example):
    test_compatibility.test_construction_refuses_what_the_rules_refuse_of_target_and_loss(example)
    assert {loss for loss in LOSSES if compares(example, loss)} >= {'MaskedL2Loss', 'MaskedL1Loss'}
    assert not compares(example, 'SSIMLoss') and build(Loss, {'type': 'MaskedL2Loss'})


@target
@pytest.mark.parametrize('encoder', ['ViT', 'ConvNeXt V2'])
def test_the_target_trains(example, encoder):
    laws.test_8_a_training_step_of_every_pair(encoder, 'TransformerDecoder', 'RandomMasking', example, 'MaskedL2Loss')


@target
def test_a_target_without_its_wiring_is_caught(example, monkeypatch):
    """What the contract says of ``takes`` is needed."""
    monkeypatch.delattr(MODELS.get(example), 'takes')
    with pytest.raises(UserError, match="needs the argument 'patch'"):
        make_model(target=example)
