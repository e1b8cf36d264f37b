"""MixMIM (projects/mixmim): official weights give the official numbers, and the two images stay apart."""

import pytest
import torch

from mae_toolkit.apis import build_model, load_config
from mae_toolkit.checkpoints.load import load_any
from mae_toolkit.errors import UserError
from mae_toolkit.models import Encoder
from mae_toolkit.models.mask_ops import to_tokens, upsample
from mae_toolkit.registry import build
from parity import Fixture
from parts import images, randomized
from projects.mixmim import MixMIM
from projects.mixmim.mixmim_swin import image_mask

SMALL = dict(type='MixMIMSwin', depths=(2, 1, 2, 1), embed_dim=4, num_heads=(1, 2, 2, 4), window_size=4, img_size=64)
DECODER = dict(type='TransformerDecoder', embed_dim=12, depth=1, num_heads=3, norm_eps=1e-5)
MASKING = dict(type='RandomMasking', ratio=0.5, count='int_hidden', shared=True)


def small(encoder=None, masking=None, norm_pix=True):
    pixel = dict(target=dict(type='PixelTarget', norm_pix=norm_pix), losses=[dict(type='MaskedL2Loss')])
    return MixMIM(SMALL | (encoder or {}), MASKING | (masking or {}), DECODER, dict(pixel=pixel))


def official(data, dtype):
    """The fixture, and our model with its weights."""
    fixture = Fixture(data, 'mixmim', dtype)
    model = small().to(dtype)
    report = load_any(model, fixture.state_dict)
    assert not report.new and not report.resized
    left = [name for name in report.dropped if not name.endswith('relative_position_index')]
    assert left == ['absolute_pos_embed', 'decoder_pos_embed']
    return fixture, model


def test_float64_loss_and_gradient_norm(data):
    fixture, model = official(data, torch.float64)
    loss = model(fixture['input'], mask=fixture.mask, mode='loss')['loss_pixel']
    torch.testing.assert_close(loss, fixture['loss_float64'].view(()), rtol=1e-9, atol=0)
    loss.backward()
    total = torch.stack([p.grad.norm() for p in model.parameters()]).norm()
    torch.testing.assert_close(total, fixture['grad_norm_total_float64'].view(()), rtol=1e-8, atol=0)


def test_fixed_positions_are_the_official_ones(data):
    fixture, model = official(data, torch.float32)
    theirs = fixture.state_dict
    torch.testing.assert_close(model.encoder.positions, theirs['absolute_pos_embed'][0], rtol=0, atol=1e-6)


def test_float32_loss_levels_and_predictions(data):
    fixture, model = official(data, torch.float32)
    imgs, mask = fixture['input'], fixture.mask
    loss = model(imgs, mask=mask, mode='loss')['loss_pixel']
    torch.testing.assert_close(loss, fixture['loss'].view(()), rtol=1e-5, atol=0)
    levels = build(Encoder, SMALL | dict(out_indices=(0, 1, 2, 3)))
    levels.load_state_dict(model.encoder.state_dict())
    mixed = torch.where(upsample(mask, imgs.shape[-2:]), imgs.flip(0), imgs)
    maps = levels(mixed, mask)
    for i in range(3):  # officially a stage ends with the merging that timm has at the beginning of the next
        merged = levels.body.layers[i + 1].downsample(maps[i].permute(0, 2, 3, 1)).flatten(1, 2)
        torch.testing.assert_close(merged, fixture[f'stage.{i}'], rtol=0, atol=fixture.tolerance(f'stage.{i}'))
    torch.testing.assert_close(to_tokens(maps[3]), fixture['latent'], rtol=0, atol=fixture.tolerance('latent'))
    whole = to_tokens(levels(imgs)[3])
    torch.testing.assert_close(whole, fixture['latent_unmasked'], rtol=0, atol=fixture.tolerance('latent_unmasked'))
    own, partner = fixture['pred'].unflatten(2, (32, 32, 3)).permute(0, 1, 4, 2, 3).flatten(2).chunk(2)  # (B, L, T)
    theirs = torch.where(to_tokens(mask), own, partner.flip(0))
    predictions, _ = model(imgs, mask=mask, mode='predict')
    torch.testing.assert_close(to_tokens(predictions['pixel']), theirs, rtol=0, atol=fixture.tolerance('pred'))


@pytest.mark.parametrize('batch', [2, 3])
def test_a_cell_is_predicted_without_its_own_kind(batch):
    """Noise in hidden cells changes no prediction there, noise in visible ones none where it is visible."""
    model = randomized(small()).eval()
    imgs, mask = images(batch, size=(64, 96)), model.masking(images(batch, size=(64, 96)))
    before = model(imgs, mask=mask, mode='predict')[0]['pixel']
    pixels = upsample(mask, imgs.shape[-2:])
    for kind, noisy in ((mask, pixels), (~mask, ~pixels)):
        after = model(torch.where(noisy, torch.randn_like(imgs), imgs), mask=mask, mode='predict')[0]['pixel']
        same = (before == after).all(1, keepdim=True)
        assert same[kind].all() and not same[~kind].any()


def test_every_parameter_learns_and_the_loss_falls():
    torch.manual_seed(0)
    model = small(norm_pix=False).train()
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-2)
    imgs, losses = images(4, size=(64, 64)), []
    for _ in range(5):
        loss = model(imgs, mode='loss')['loss_pixel']
        optimizer.zero_grad()
        loss.backward()
        assert all(p.grad.any() for p in model.parameters())
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < losses[0]


@pytest.mark.parametrize('size', [(64, 64), (90, 70)])
def test_the_backbone_takes_images_of_any_size(size):
    levels = build(Encoder, SMALL | dict(out_indices=(0, 1, 2, 3), out_norms=True, final_norm=False))
    shapes = [tuple(x.shape[1:]) for x in levels(images(size=size))]
    assert shapes == [(4 * 2**i, -(-size[0] // (4 << i)), -(-size[1] // (4 << i))) for i in range(4)]


def test_padding_of_windows_belongs_to_neither_image():
    """A map of 3 x 2 in windows of 2 x 2: the second one has two places of padding."""
    mask = torch.tensor([[False, True], [False, False], [True, False]]).view(1, 1, 3, 2)
    first, second = image_mask(mask, (3, 2), (2, 2))[:, 0]
    assert torch.equal(first, torch.tensor([[0, 1, 0, 0], [1, 0, 1, 1], [0, 1, 0, 0], [0, 1, 0, 0]]).bool())
    assert torch.equal(second, torch.tensor([[0, 1, 1, 1], [1, 0, 1, 1], [1, 1, 0, 0], [1, 1, 0, 0]]).bool())


def test_the_config_has_the_published_numbers(root):
    cfg = load_config(root / 'projects/mixmim/configs/mixmim_swin-b_600e_imagenet.py')
    cfg.model.data_preprocessor = None  # it holds numbers, which have no place on the device meta
    assert cfg.auto_scale_lr.base_batch_size == 2048
    assert cfg.optim_wrapper.type == 'AmpOptimWrapper' and 'clip_grad' not in cfg.optim_wrapper
    optimizer = cfg.optim_wrapper.optimizer
    assert optimizer.lr == pytest.approx(1.5e-4 * 2048 / 256)
    assert (optimizer.type, tuple(optimizer.betas), optimizer.weight_decay) == ('AdamW', (0.9, 0.95), 0.05)
    warmup, cosine = cfg.param_scheduler
    assert (cfg.train_cfg.max_epochs, warmup.end, cosine.begin, cosine.eta_min) == (600, 40, 40, 0)
    crop = cfg.train_dataloader.dataset.pipeline[0]
    assert (crop.size, tuple(crop.scale), crop.interpolation) == (224, (0.2, 1.0), 'bicubic')
    with torch.device('meta'):
        model = build_model(cfg)
    body = model.encoder.body
    assert [len(stage.blocks) for stage in body.layers] == [2, 2, 18, 2]
    assert [stage.blocks[0].attn.window_size for stage in body.layers] == [(14, 14)] * 3 + [(7, 7)]
    assert [stage.blocks[0].attn.num_heads for stage in body.layers] == [4, 8, 16, 32]
    assert (body.embed_dim, model.encoder.grid, model.encoder.out_channels) == (128, (7, 7), (1024,))
    assert (model.masking.ratio, model.masking.unit, model.masking.count_hidden(49)) == (0.5, 32, 24)
    decoder = model.decoder
    assert (decoder.out_channels, len(decoder.blocks), decoder.blocks[0].attn.num_heads) == (512, 8, 16)
    assert {m.eps for m in model.modules() if isinstance(m, torch.nn.LayerNorm)} == {1e-5}
    assert model.objectives['pixel'].target.norm_pix and model.objectives['pixel'].target.stride == 32


@pytest.mark.parametrize(
    ('encoder', 'masking', 'words'),
    [
        ({}, dict(shared=False), 'shared=True'),
        (dict(mask_token=True), {}, 'leave mask_token=True out'),
        (dict(type='Swin'), {}, 'needs a MixMIMSwin as the encoder, not Swin'),
        ({}, dict(unit=16), 'Stride 32 .* does not divide mask unit 16'),
    ],
)
def test_refusals(encoder, masking, words):
    with pytest.raises(UserError, match=words):
        small(encoder, masking)


def test_masks_that_differ_are_refused():
    mask = torch.tensor([[True, False], [False, True]]).view(2, 1, 1, 2)
    with pytest.raises(UserError, match='the given masks differ'):
        small()(images(2, size=(32, 64)), mask=mask, mode='loss')
