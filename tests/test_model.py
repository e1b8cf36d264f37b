"""The masked autoencoder as a whole, beyond the laws of its parts."""

import itertools
from types import SimpleNamespace

import pytest
import torch
from torch.nn.functional import pixel_shuffle
from torch.utils._python_dispatch import TorchDispatchMode

from mae_toolkit.errors import UserError
from mae_toolkit.models import (
    Cells,
    Decoder,
    Encoder,
    MaskedAutoencoder,
    MaskedSmoothL1Loss,
    Masking,
    Objective,
    PixelTarget,
    PredictionHead,
    Target,
)
from mae_toolkit.models.cells import pack, unpack
from mae_toolkit.models.compile import compile_parts
from mae_toolkit.models.layers.positions import compute_sincos_positions
from mae_toolkit.models.mask_ops import hide, upsample
from mae_toolkit.registry import build
from parts import DECODERS, ENCODERS, MASKINGS, fits, images, make_encoder, make_model, randomized

# Two masks of 24 cells, of which 15 are hidden.
MASKED = torch.rand(2, 24, generator=torch.Generator().manual_seed(4)).argsort(1) < 15


def test_modes():
    model = make_model()
    x = images()
    assert list(model(x, mode='loss')) == ['loss_pixel']
    predictions, mask = model(x, mode='predict')
    assert predictions['pixel'].shape == (2, 3 * 64, 4, 6)
    assert mask.shape == (2, 1, 4, 6)
    assert model(x, mode='tensor')[0].shape == (2, 24, 4, 6)


@pytest.mark.parametrize('channels', [1, 2, 5])
@pytest.mark.parametrize('size', [(32, 48), (64, 24), (16, 16)])
def test_any_channels_and_any_size(channels, size):
    model = make_model(encoder=ENCODERS['ViT'] | {'in_chans': channels})
    x = images(channels=channels, size=size)
    predictions, _ = model(x, mode='predict')
    assert predictions['pixel'].shape == (2, channels * 64, size[0] // 8, size[1] // 8)
    sum(model(x, mode='loss').values()).backward()


def test_a_mask_unit_larger_than_the_patch():
    model = make_model(masking={'type': 'RandomMasking', 'unit': 16, 'ratio': 0.5})
    predictions, mask = model(images(), mode='predict')
    assert mask.shape == (2, 1, 2, 3)
    assert predictions['pixel'].shape == (2, 192, 4, 6)
    features = model.encoder.encode(images(), Cells(mask))
    assert (features.maps[0][upsample(mask, (4, 6)).expand_as(features.maps[0])] == 0).all()


def test_nothing_to_predict_is_refused():
    model, nothing = make_model(), torch.zeros(2, 1, 4, 6, dtype=torch.bool)
    for given in ({'mask': nothing}, {'mask': ~nothing & (torch.arange(6) < 3), 'predict': nothing}):
        with pytest.raises(UserError, match='False in all 24 cells'):
            model(images(), mode='loss', **given)
    assert model(images(), mask=nothing, mode='predict')[0]['pixel'].isfinite().all()


def test_predict_narrows_the_loss():
    model = make_model()
    x = images()
    mask = model.masking(x)
    some = mask & (torch.arange(24).view(1, 1, 4, 6) < 12)
    predictions, _ = model(x, mask=mask, mode='predict')
    distance = (predictions['pixel'] - model.objectives['pixel'].target(x)).square().mean(1, keepdim=True)
    expected = distance[some].mean()
    torch.testing.assert_close(model(x, mask=mask, predict=some, mode='loss')['loss_pixel'], expected)


def test_objectives_and_losses_are_summed_by_weight():
    one = {'type': 'MaskedL2Loss'}
    objectives = {
        'pixel': {'target': {'type': 'PixelTarget'}, 'losses': [one, {'type': 'MaskedL1Loss', 'weight': 0.5}]},
        'local': {'target': {'type': 'PixelTarget', 'norm_pix': True}, 'losses': [one]},
    }
    model = make_model(objectives=objectives)
    losses = model(images(), mode='loss')
    assert set(losses) == {'loss_pixel', 'loss_local'}
    x, mask = images(), model.masking(images())
    pred = model(x, mask=mask, mode='predict')[0]['pixel']
    where = mask.expand_as(pred)
    difference = (pred - model.objectives['pixel'].target(x))[where]
    expected = difference.square().mean() + 0.5 * difference.abs().mean()
    torch.testing.assert_close(model(x, mask=mask, mode='loss')['loss_pixel'], expected)


def test_initialization_by_mmengine_keeps_loaded_weights():
    model = make_model()
    before = {k: v.clone() for k, v in model.state_dict().items()}
    model.init_weights()
    assert all(torch.equal(v, before[k]) for k, v in model.state_dict().items())


def test_fixed_masks_are_drawn_from_the_seed():
    model = make_model()
    torch.manual_seed(3)
    a = model.masking(images())
    torch.manual_seed(3)
    assert torch.equal(a, model.masking(images()))
    assert not torch.equal(a, model.masking(images()))
    assert not torch.equal(a[0], a[1])


def test_shared_masks():
    model = make_model(masking={'type': 'RandomMasking', 'shared': True})
    mask = model.masking(images(4))
    assert mask.shape == (4, 1, 4, 6)
    assert (mask == mask[:1]).all()


def test_checkpointed_blocks_give_the_same_gradients():
    x = images()
    plain = make_model()
    saving = make_model(
        encoder=ENCODERS['ViT'] | {'with_cp': True},
        decoder={'type': 'TransformerDecoder', 'embed_dim': 16, 'depth': 1, 'num_heads': 2, 'with_cp': True},
    )
    saving.load_state_dict(plain.state_dict())
    mask = plain.masking(x)
    for model in (plain, saving):
        model(x, mask=mask, mode='loss')['loss_pixel'].backward()
    for (name, a), b in zip(plain.named_parameters(), saving.parameters(), strict=True):
        if a.grad is not None:
            torch.testing.assert_close(a.grad, b.grad, msg=name)


def test_layer_depth():
    encoder = make_encoder('ViT learned positions, registers, levels', out_indices=(0, 1), final_norm=True)
    depths = {name: encoder.layer_depth(name) for name, _ in encoder.named_parameters()}
    assert depths['body.pos_embed'] == depths['body.patch_embed.proj.weight'] == depths['body.reg_token'] == (0, 3)
    assert depths['body.blocks.0.attn.qkv.weight'] == (1, 3)
    assert depths['body.blocks.1.mlp.fc1.bias'] == (2, 3)
    assert depths['body.norm.weight'] == (3, 3)


def test_positions_are_stretched_to_the_input():
    table = compute_sincos_positions(8, (4, 6))
    assert table.shape == (24, 8)
    column, row = table[:, :4].view(4, 6, 4), table[:, 4:].view(4, 6, 4)
    assert torch.equal(column[0], column[3])  # the first half knows the column alone
    assert torch.equal(row[:, 0], row[:, 5])
    assert column[0, 2, 0] == pytest.approx(torch.sin(torch.tensor(2.0)).item())
    stretched = compute_sincos_positions(8, (8, 12), (4, 6)).view(8, 12, 8)
    torch.testing.assert_close(stretched[0, 0, 4], torch.sin(torch.tensor(-0.25)))
    assert torch.equal(compute_sincos_positions(8, (4, 6), (4, 6)), table)


class Vectors(Target):
    """Seven numbers per position."""

    def __init__(self, stride):
        super().__init__()
        self.channels, self.stride = 7, stride


@pytest.mark.parametrize(('decoder_stride', 'target_stride'), [(8, 8), (16, 8), (8, 16), (1, 4)])
def test_the_head_meets_any_stride(decoder_stride, target_stride):
    x = torch.randn(1, 16, 32 // decoder_stride, 48 // decoder_stride)
    pixels = PredictionHead(16, decoder_stride, PixelTarget(target_stride))(x)
    assert pixel_shuffle(pixels, target_stride).shape == (1, 3, 32, 48)
    vectors = PredictionHead(16, decoder_stride, Vectors(target_stride))(x)
    assert vectors.shape == (1, 7, 32 // target_stride, 48 // target_stride)


@pytest.mark.parametrize('stride', [1, 2, 4])
def test_a_position_of_the_decoder_predicts_its_own_pixels(stride):
    x = torch.zeros(1, 16, 16 // stride, 16 // stride)
    x[..., 1, 2] = torch.randn(16)
    for target in (PixelTarget(8), PixelTarget(8, norm_pix=True)):
        picture = pixel_shuffle(PredictionHead(16, stride, target)(x), 8)[0]  # (3, 16, 16), biases are zero
        own = picture[:, stride : 2 * stride, 2 * stride : 3 * stride]
        assert own.all()
        assert (picture != 0).sum() == own.numel()
    vectors = PredictionHead(16, stride, Vectors(8))(x)
    assert vectors[..., 0, 0].any() == (stride < 4)  # the position lies in the first row and column of the target
    assert (vectors != 0).sum() == 7


@pytest.mark.parametrize('masking', MASKINGS)
def test_a_share_of_the_hidden_cells_is_predicted(masking):
    masking = build(Masking, MASKINGS[masking] | {'unit': 8, 'ratio': 0.75, 'predict_ratio': 0.25})
    mask = masking(images(8))
    chosen = torch.stack([masking.draw_predicted(mask) for _ in range(30)])
    assert (chosen <= mask).all()
    assert (chosen.flatten(2).sum(2) == masking.count_predicted(24)).all()
    assert masking.count_predicted(24) == 24 - int(24 * 0.25) - int(24 * 0.5)  # CrossMAE's count
    assert torch.equal(chosen.any(0), mask)


def test_a_share_is_compared_in_training_and_everything_in_pictures():
    model = make_model(masking={'type': 'RandomMasking', 'predict_ratio': 0.25})
    cells = model.masking.draw_cells(images())
    assert (cells.num_visible, cells.num_predict) == (6, 6)
    assert cells.predict.sum() == 2 * 6
    whole = model.masking.draw_cells(images(), predict_all=True)
    assert torch.equal(whole.predict, whole.mask)
    assert whole.num_predict == 18


def test_pixel_target_is_the_picture():
    x = images()
    target = PixelTarget(8)
    assert torch.equal(target.to_image(target(x)), x)
    normalized = PixelTarget(8, norm_pix=True)
    t = normalized(x)
    torch.testing.assert_close(t.mean(1), torch.zeros(2, 4, 6), atol=1e-5, rtol=0)
    torch.testing.assert_close(t.var(1), torch.ones(2, 4, 6), atol=1e-4, rtol=0)  # unbiased
    torch.testing.assert_close(normalized.to_image(t, normalized.statistics(x)), x, atol=1e-5, rtol=1e-5)


def test_losses_are_computed_in_float32_under_autocast():
    model = make_model(target='PixelTarget normalized')
    with torch.autocast('cpu', torch.bfloat16):
        loss = model(images(), mode='loss')['loss_pixel']
    assert loss.dtype is torch.float32
    assert make_model().double()(images().double(), mode='loss')['loss_pixel'].dtype is torch.float64


def test_hide():
    x = images() + 10  # nowhere zero
    assert hide(x, None) is x
    mask = torch.zeros(2, 1, 4, 6, dtype=torch.bool)
    mask[0, 0, 1, 2] = mask[1, 0, 3, 5] = True
    hidden = hide(x, mask)
    assert (hidden[0, :, 8:16, 16:24] == 0).all() and (hidden[1, :, 24:32, 40:48] == 0).all()
    assert (hidden == 0).sum() == 2 * 3 * 64  # and True is what hides
    assert torch.equal(hidden[hidden != 0], x[hidden != 0])


def test_the_encoder_never_sees_what_is_hidden(monkeypatch):
    """What would leak through an encoder of overlapping convolutions, though not through a ViT."""
    model, seen = make_model(), []
    stages = model.encoder.stages
    monkeypatch.setattr(model.encoder, 'stages', lambda imgs, *args: (seen.append(imgs), stages(imgs, *args))[1])
    mask = model.masking(images())
    model(images() + 10, mask=mask, mode='loss')
    assert torch.equal(seen[0] == 0, upsample(mask, (32, 48)).expand(-1, 3, -1, -1))


class Rising(Masking):
    def score(self, imgs, h, w):
        return torch.arange(h * w).view(1, h, w).expand(len(imgs), -1, -1).float()


def test_the_highest_scores_are_hidden():
    mask = Rising(ratio=0.25, unit=8)(images())
    assert torch.equal(mask.flatten(1), (torch.arange(24) >= 18).expand(2, -1))


@pytest.mark.parametrize(
    ('count', 'cells', 'ratio', 'hidden'),
    [
        *[('int_visible', 49, 0.6, 30), ('round_visible', 49, 0.6, 29), ('ceil_hidden', 49, 0.6, 30)],
        *[('int_hidden', 49, 0.6, 29), ('ceil_hidden', 36, 0.6, 22), ('int_visible', 196, 0.75, 147)],
    ],
)
def test_counts_are_rounded_as_published(count, cells, ratio, hidden):
    assert Rising(ratio=ratio, count=count).count_hidden(cells) == hidden


def test_smooth_l1_has_its_bend_at_beta():
    everywhere = torch.ones(1, 1, 1, 1, dtype=torch.bool)
    for beta, expected in ((1.0, 0.125), (0.1, 0.45)):
        loss = MaskedSmoothL1Loss(beta=beta)
        value = loss(torch.full((1, 1, 1, 1), 0.5), torch.zeros(1, 1, 1, 1), everywhere)
        assert value.item() == pytest.approx(expected)


def test_fresh_weights_are_those_of_mae():
    """Xavier-uniform layers, the embedding as one of a flattened patch; tokens of deviation 0.02 (appendix A.1)."""
    config = {'type': 'ViT', 'arch': 'vit_base_patch16_224', 'depth': 1, 'img_size': 32, 'reg_tokens': 4}
    body = build(Encoder, config).body
    decoder = build(Decoder, {'type': 'TransformerDecoder', 'depth': 1, 'in_channels': (768,), 'in_strides': (16,)})
    for weight in (body.blocks[0].mlp.fc1.weight, body.patch_embed.proj.weight, decoder.embed[0].weight):
        flat = weight.flatten(1)
        bound = (6 / sum(flat.shape)) ** 0.5
        assert 0.99 * bound < flat.abs().max() <= bound
        assert flat.std().item() == pytest.approx(bound / 3**0.5, rel=0.02)
    for token in (body.cls_token, body.reg_token, decoder.mask_token):
        assert token.std().item() == pytest.approx(0.02, rel=0.1)
    for layer in (*body.modules(), *decoder.modules()):
        if isinstance(layer, torch.nn.Linear | torch.nn.Conv2d) and layer.bias is not None:
            assert not layer.bias.any()


def test_decoder_positions_are_stretched_to_another_size():
    decoder = make_model().decoder
    assert torch.equal(decoder.positions((4, 6)), compute_sincos_positions(16, (4, 6)))
    assert torch.equal(decoder.positions((8, 6)), compute_sincos_positions(16, (8, 6), (4, 6)))
    assert not torch.equal(decoder.positions((8, 6)), compute_sincos_positions(16, (8, 6)))


@pytest.mark.parametrize('with_cp', [False, True])
def test_blocks_are_computed_again_when_activations_are_not_kept(with_cp):
    model = make_model(
        encoder=ENCODERS['ViT'] | {'with_cp': with_cp},
        decoder={'type': 'TransformerDecoder', 'embed_dim': 16, 'depth': 1, 'num_heads': 2, 'with_cp': with_cp},
    )
    calls = []
    for block in (*model.encoder.body.blocks, *model.decoder.blocks):
        block.register_forward_pre_hook(lambda module, _: calls.append(module))
    model(images(), mode='loss')['loss_pixel'].backward()
    assert len(calls) == 3 * (2 if with_cp else 1)


@pytest.mark.slow
@pytest.mark.parametrize('size', [(32, 48), (48, 64)])
def test_the_parts_compile_without_a_break(size):
    """Traced whole, at the size of the stored positions and at another; no compiler is needed for that."""
    model = make_model()
    mask = build(Masking, {'type': 'RandomMasking', 'unit': 8})(images(size=size))
    x = images(size=size)
    expected = model(x, mask=mask, mode='loss')['loss_pixel']
    compile_parts(model, backend='eager', fullgraph=True)
    torch.testing.assert_close(model(x, mask=mask, mode='loss')['loss_pixel'], expected)


def test_an_unknown_mode_is_refused():
    with pytest.raises(UserError, match="'los' must be one of loss, predict, tensor"):
        make_model()(images(), mode='los')


def test_targets_get_no_gradient():
    class Leaky(Target):
        channels, stride = 3, 1

        def __init__(self):
            super().__init__()
            self.scale = torch.nn.Parameter(torch.ones(1))

        def forward(self, imgs):
            return imgs * self.scale

    decoder = SimpleNamespace(out_channels=4, out_stride=1)
    objective = randomized(Objective(Leaky(), [{'type': 'MaskedL2Loss'}], decoder))
    loss = objective(objective.head(torch.randn(2, 4, 32, 48)), images(), torch.ones(2, 1, 4, 6, dtype=torch.bool))
    loss.backward()
    assert objective.target.scale.grad is None
    assert objective.head.proj.weight.grad is not None


def test_the_model_is_built_from_a_config_with_a_scope():
    from mmengine.registry import MODELS

    encoder = MODELS.build({'type': 'mae_toolkit.ViT', **{k: v for k, v in ENCODERS['ViT'].items() if k != 'type'}})
    assert encoder(images())[0].shape == (2, 24, 4, 6)
    assert isinstance(build(type(encoder), encoder), type(encoder))
    assert isinstance(make_model(), MaskedAutoencoder)


class CountSorts(TorchDispatchMode):
    """Counts the sorts of integers, as the indices of cells are found by; a top-k of scores is none."""

    def __init__(self):
        super().__init__()
        self.count = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        self.count += 'sort' in func._schema.name and not args[0].is_floating_point()
        return func(*args, **(kwargs or {}))


PAIRS = [
    (encoder, decoder, 0.5) for encoder, decoder in itertools.product(ENCODERS, DECODERS) if fits(encoder, decoder)
]


@pytest.mark.parametrize(('encoder', 'decoder', 'predict_ratio'), [*PAIRS, ('ViT', 'CrossAttentionDecoder', None)])
def test_cells_are_sorted_once_per_mask(encoder, decoder, predict_ratio):
    """By the encoder or the decoder, in forward and backward passes; cells that are predicted have another mask."""
    model = make_model(encoder, {'type': 'RandomMasking', 'ratio': 0.75, 'predict_ratio': predict_ratio}, decoder)
    with CountSorts() as sorts:
        sum(model(images(), mode='loss').values()).backward()
    is_packed = not model.encoder.fills_hidden or decoder.startswith(('UNet', 'CrossAttention'))
    assert sorts.count == is_packed + (decoder == 'CrossAttentionDecoder' and predict_ratio is not None)


@pytest.mark.parametrize('size', [(4, 6), (8, 12)])
def test_cells_know_where_they_are(size):
    mask = MASKED.view(2, 1, 4, 6)
    cells = Cells(mask)
    hidden = upsample(mask, size).flatten(1)
    assert (cells.num_visible, cells.num_predict, cells.num_cells, cells.grid) == (9, 15, 24, (4, 6))
    for ids, image in zip(cells.visible_ids(size), hidden, strict=True):
        assert ids.tolist() == (~image).nonzero().flatten().tolist()
    x = torch.randn(2, 5, *size)
    assert torch.equal(unpack(pack(x, cells.visible()), cells.visible()), hide(x, mask))
    assert torch.equal(unpack(pack(x, cells.predicted()), cells.predicted()), hide(x, ~mask))
    assert torch.equal(cells.visible().refine(size).indices(size).sort(1).values, cells.visible_ids(size))
    some = Cells(mask, ~mask, num_predict=9)
    assert torch.equal(some.predicted().ids, cells.visible().ids)
    assert Cells(mask, ~mask).predicted() is None and Cells(mask, ~mask).num_predict is None


def test_cells_that_differ_in_number_are_refused_when_they_are_counted():
    mask = MASKED.view(2, 1, 4, 6).clone()
    mask[1, 0, 0, 0] ^= True
    with pytest.raises(UserError, match='9 cells of image 0 visible, but (8|10) of image 1'):
        Cells(mask).visible()
    with pytest.raises(UserError, match='hides all 24 cells'):
        Cells(torch.ones_like(mask)).num_visible  # noqa: B018
