"""What detectors, segmenters and long runs ask of every encoder, beyond the laws."""

import copy
import inspect
import pickle

import pytest
import torch
from mmengine.model import BaseModule, ExponentialMovingAverage
from torch.nn.modules.batchnorm import _BatchNorm

import test_laws as laws
from mae_toolkit.errors import UserError
from mae_toolkit.models import Cells, Encoder, Features, Masking
from mae_toolkit.models.mask_ops import hide, upsample
from mae_toolkit.models.pooling import check_pooling
from mae_toolkit.registry import MODELS, build
from parts import ENCODERS, images, make_encoder

FIRST_LEVEL = {'SparseCNN': 1}  # the stem of a CNN is its level 0; elsewhere the first stage is
every_encoder = pytest.mark.parametrize('name', ENCODERS)
masked_or_not = pytest.mark.parametrize('masked', [False, True], ids=['whole', 'masked'])


def accepts(name, argument):
    return argument in inspect.signature(MODELS.get(ENCODERS[name]['type']).__init__).parameters


def level(name):
    return FIRST_LEVEL.get(ENCODERS[name]['type'], 0)


def pair(name, **changes):
    """Two encoders of the same weights in float64, the second with changes."""
    first, second = make_encoder(name).double(), make_encoder(name, **changes).double()
    second.load_state_dict(first.state_dict())
    return first, second


def a_mask(encoder, seed=0):
    torch.manual_seed(seed)
    return build(Masking, {'type': 'RandomMasking', 'unit': encoder.mask_unit, 'ratio': 0.6})(images())


def loss(encoder, mask=None, x=None):
    """A number that depends on every output, unevenly."""
    x = images().to(next(encoder.parameters()).dtype) if x is None else x
    maps = encoder(hide(x, mask), mask)
    return sum((y.float() if y.dtype is torch.bfloat16 else y).sin().square().mean() for y in maps)


def gradients(encoder):
    return {n: p.grad.clone() for n, p in encoder.named_parameters() if p.grad is not None}


def assert_same(a, b, tolerance=1e-10):
    assert a.keys() == b.keys()
    for name, tensor in a.items():
        torch.testing.assert_close(tensor, b[name], rtol=tolerance, atol=tolerance, msg=lambda m, n=name: f'{n}: {m}')


@every_encoder
def test_any_size(name):
    encoder = make_encoder(name, out_indices=(0, 1)).eval()
    maps = encoder(images(size=(45, 70)))
    expected = [(2, c, -(-45 // s), -(-70 // s)) for c, s in zip(encoder.out_channels, encoder.out_strides)]
    assert [tuple(x.shape) for x in maps] == expected
    assert all(x.isfinite().all() for x in maps)


@every_encoder
def test_each_level_is_what_an_encoder_of_this_level_alone_gives(name):
    several = make_encoder(name, out_indices=(0, 1)).eval()
    for i, x in enumerate(several(images())):
        alone = make_encoder(name, out_indices=(i,)).eval()
        own = f'out_norms.{i}.'
        state = {k.replace(own, 'out_norms.0.'): v for k, v in several.state_dict().items()}
        alone.load_state_dict({k: state[k] for k in alone.state_dict()})
        torch.testing.assert_close(alone(images())[0], x)
        assert (alone.out_channels[0], alone.out_strides[0]) == (several.out_channels[i], several.out_strides[i])


@every_encoder
def test_frozen_stages_are_frozen_in_every_way_and_the_rest_trains(name):
    """Frozen is what the encoder of the first stage alone consists of."""
    stage = level(name)
    plain = {option: False for option in ('out_norms', 'final_norm') if accepts(name, option)}
    below = {n for n, _ in make_encoder(name, out_indices=(stage,), **plain).named_parameters()}
    encoder = build(Encoder, ENCODERS[name] | {'out_indices': (stage, stage + 1), 'frozen_stages': 1}).train()
    assert below == {n for n, p in encoder.named_parameters() if not p.requires_grad}
    loss(encoder, a_mask(encoder)).backward()
    assert gradients(encoder).keys() == {n for n, _ in encoder.named_parameters()} - below
    for module_name, module in encoder.named_modules():
        own = [f'{module_name}.{n}' for n, _ in module.named_parameters(recurse=False)]
        if own and module_name != 'body':  # which may hold positions
            assert module.training != (own[0] in below), module_name


@every_encoder
@pytest.mark.parametrize('copied', [False, True])
def test_frozen_stages_give_the_same_in_training_and_evaluation(name, copied):
    stage = level(name)
    options = dict(out_indices=(stage, stage + 1), frozen_stages=1, drop_path_rate=0.9)
    options |= {'out_norms': False} if accepts(name, 'out_norms') else {}
    encoder = make_encoder(name, **options)
    encoder = (copy.deepcopy(encoder) if copied else encoder).train()
    with torch.no_grad():
        trained, evaluated = encoder(images())[0], encoder.eval()(images())[0]
    assert torch.equal(trained, evaluated)


@every_encoder
def test_stages_that_are_not_there_cannot_be_frozen(name):
    with pytest.raises(UserError, match='frozen_stages=40 .*-1'):
        make_encoder(name, frozen_stages=40)


@pytest.mark.parametrize('name', [n for n in ENCODERS if accepts(n, 'norm_eval')])
def test_batch_norms_keep_their_statistics_when_told_to(name):
    encoder = make_encoder(name, norm_eval=True).train()
    norms = [m for m in encoder.modules() if isinstance(m, _BatchNorm)]
    assert norms and not any(m.training for m in norms)
    before = {n: b.clone() for n, b in encoder.named_buffers()}
    loss(encoder).backward()
    assert_same(before, dict(encoder.named_buffers()), 0)
    assert all(m.weight.grad is not None for m in norms)


@masked_or_not
@every_encoder
def test_recomputation_changes_no_number(name, masked):
    """With drop path: the same paths are dropped when they are computed again."""
    plain = make_encoder(name, drop_path_rate=0.5).double()
    saving = make_encoder(name, drop_path_rate=0.5, with_cp=True).double()
    saving.load_state_dict(plain.state_dict())
    mask, values = a_mask(plain) if masked else None, []
    for encoder in (plain, saving):
        torch.manual_seed(3)
        values.append(loss(encoder, mask))
        values[-1].backward()
    torch.testing.assert_close(*values, rtol=1e-10, atol=1e-10)
    assert_same(gradients(plain), gradients(saving))
    assert_same(dict(plain.named_buffers()), dict(saving.named_buffers()))


@every_encoder
def test_paths_are_dropped_in_training_alone(name):
    encoder = make_encoder(name, drop_path_rate=0.5)
    x, seen = images(8), []
    for seed in (0, 0, 1, 2, 3):
        torch.manual_seed(seed)
        with torch.no_grad():
            seen.append(encoder(x)[-1])
    assert torch.equal(seen[0], seen[1])
    assert not all(torch.equal(seen[0], other) for other in seen[2:])
    encoder.eval()
    assert torch.equal(encoder(x)[-1], encoder(x)[-1])


@every_encoder
def test_two_masked_forwards_before_one_backward(name):
    together, apart = pair(name)
    first, second = a_mask(together, 0), a_mask(together, 1)
    assert not torch.equal(first, second)
    (loss(together, first) + loss(together, second)).backward()
    loss(apart, first).backward()
    loss(apart, second).backward()
    assert_same(gradients(together), gradients(apart))


@every_encoder
def test_a_copy_and_what_was_pickled_give_the_same(name):
    encoder = make_encoder(name)
    mask = a_mask(encoder)
    loss(encoder, mask).backward()
    encoder.eval()
    copies = {
        'copy': copy.deepcopy(encoder),
        'average': ExponentialMovingAverage(encoder).module,
        'pickle': pickle.loads(pickle.dumps(encoder)),
    }
    for kind, other in copies.items():
        assert other.state_dict().keys() == encoder.state_dict().keys(), kind
        for given in (mask, None):  # without gradients, attention takes another kernel
            torch.testing.assert_close(loss(other, given), loss(encoder, given), rtol=1e-5, atol=1e-6)


@masked_or_not
@every_encoder
def test_bfloat16_stays_close_to_float32(name, masked):
    exact, rough = pair(name)
    exact, rough = exact.float(), rough.float()
    mask, x = a_mask(exact) if masked else None, images()
    expected = exact(hide(x, mask), mask)
    with torch.autocast('cpu', torch.bfloat16):
        maps = rough(hide(x, mask), mask)
    for a, b in zip(maps, expected, strict=True):
        assert (a - b).norm() < 0.05 * b.norm()
    loss(exact, mask).backward()
    with torch.autocast('cpu', torch.bfloat16):
        value = loss(rough, mask)
    value.backward()
    a, b = (torch.cat([g.flatten() for g in gradients(e).values()]) for e in (rough, exact))
    assert a.dtype is torch.float32
    assert (a - b).norm() < 0.2 * b.norm()


@every_encoder
def test_images_of_five_channels(name):
    """Each of them decides the features, where it is visible."""
    encoder = make_encoder(name, in_chans=5)
    x, mask = images(channels=5).requires_grad_(), a_mask(encoder)
    assert encoder.in_chans == x.shape[1]
    loss(encoder, mask, x).backward()
    assert all(p.grad is not None for p in encoder.parameters() if p.requires_grad)
    visible = ~upsample(mask, x.shape[-2:]).expand_as(x)
    for i in range(5):
        assert x.grad[:, i][visible[:, i]].ne(0).float().mean() > 0.9


class Detector(BaseModule):
    """A model of MMEngine that holds an encoder, as detectors and segmenters do."""

    def __init__(self, backbone):
        super().__init__()
        self.backbone = backbone


@every_encoder
def test_initialization_by_mmengine_redraws_nothing(name):
    encoder = make_encoder(name)
    before = {k: v.clone() for k, v in encoder.state_dict().items()}
    Detector(encoder).init_weights()
    assert_same(before, encoder.state_dict(), 0)


@every_encoder
@pytest.mark.parametrize(
    ('mask', 'words'),
    [
        (torch.zeros(1, 1, 4, 6, dtype=torch.bool), 'for 2 images it must be .2, 1, h, w.'),
        (torch.zeros(2, 1, 4, 6), 'bool tensor .True = hidden., not torch.float32'),
        (torch.zeros(2, 1, 3, 5, dtype=torch.bool), '3 x 5 cells does not fit images of 32 x 48 pixels'),
        (torch.zeros(2, 1, 4, 4, dtype=torch.bool), '4 x 4 cells does not fit'),
    ],
)
def test_a_mask_of_other_images_is_refused(name, mask, words):
    with pytest.raises(UserError, match=words):
        make_encoder(name)(images(), mask)


@every_encoder
def test_images_of_other_channels_are_refused(name):
    with pytest.raises(UserError, match='The images have 5 channels, the encoder takes in_chans=3'):
        make_encoder(name)(images(channels=5))


def test_an_encoder_of_ones_own_keeps_the_laws_and_is_transferred(monkeypatch, tmp_path):
    """The example of the base class: one short class, without timm."""
    example = inspect.getdoc(Encoder).split('patch::\n')[1].split('\n\nThe rule for authors')[0]
    scope = {'MODELS': MODELS, 'Encoder': Encoder, 'Features': Features, 'Cells': Cells, 'Tensor': torch.Tensor}
    exec(inspect.cleandoc(example), scope | {'nn': torch.nn})
    monkeypatch.setitem(ENCODERS, 'own', {'type': 'PatchEncoder'})
    try:
        laws.test_1_shapes_are_as_announced('own')
        laws.test_2_zero_where_hidden_and_nowhere_else('own', 2)
        laws.test_3_crop_law('own')
        laws.test_5_every_trainable_parameter_has_a_gradient('own', 'TransformerDecoder')
        laws.test_7_noise_in_hidden_pixels_changes_nothing('own', 'UNetDecoder', 1)
        laws.test_8_a_training_step_of_every_pair(
            'own', 'CrossAttentionDecoder', 'RandomMasking', 'PixelTarget', 'MaskedL2Loss'
        )
        test_any_size_of_one_level('own')
        own = make_encoder('own')
        assert own.no_weight_decay() == set() and own.layer_depth('embed.bias') == (0, 1)
        check_pooling('mean', own)
        state = {f'encoder.{name}': value for name, value in own.state_dict().items()}
        torch.save({'state_dict': state}, tmp_path / 'epoch_1.pth')
        init_cfg = {'type': 'Pretrained', 'checkpoint': str(tmp_path / 'epoch_1.pth'), 'prefix': 'encoder'}
        backbone = build(Encoder, {'type': 'PatchEncoder', 'init_cfg': init_cfg})
        backbone.init_weights()
        assert_same(backbone.state_dict(), own.state_dict(), 0)
        with pytest.raises(UserError, match='class token, which this PatchEncoder lacks'):
            check_pooling('class', make_encoder('own'))
    finally:
        del MODELS.module_dict['PatchEncoder']


def test_any_size_of_one_level(name='ViT'):
    assert make_encoder(name)(images(size=(45, 70)))[0].shape[2:] == (6, 9)
