"""UM-MAE (projects/ummae): official weights give the official numbers, and visible cells move together and back."""

import json
from types import SimpleNamespace

import pytest
import torch

import projects.ummae.compact_swin
from mae_toolkit.apis import build_model, load_config
from mae_toolkit.checkpoints.load import load_any
from mae_toolkit.errors import UserError
from mae_toolkit.models import Encoder, Masking
from mae_toolkit.models.mask_ops import hide, to_tokens, upsample
from mae_toolkit.registry import build
from parity import Fixture
from parts import images, randomized
from projects.ummae import UMMAE
from projects.ummae.compact_swin import draw_replaced
from projects.ummae.compaction import compact, spread
from projects.ummae.position_mlp import find_distances, mlp_bias

SMALL = dict(type='CompactSwin', depths=(2, 2, 1, 1), embed_dim=4, num_heads=(1, 2, 2, 4), window_size=4, img_size=64)
SMALL |= dict(position_dim=6, replaced=0.25)
DECODER = dict(type='CompactDecoder', embed_dim=16, depth=1, num_heads=2)
UNIFORM = dict(type='UniformMasking', ratio=0.75)


def small(encoder=None, masking=None, decoder=None):
    target = dict(type='PixelTarget', norm_pix=True, patch=16)
    objectives = dict(pixel=dict(target=target, losses=[dict(type='MaskedL2Loss')]))
    return UMMAE(SMALL | (encoder or {}), UNIFORM | (masking or {}), DECODER | (decoder or {}), objectives)


def uniform(batch, size, unit=16):
    return build(Masking, UNIFORM | dict(unit=unit))(images(batch, size=size))


@pytest.fixture
def official(data, monkeypatch):
    """The fixture in a precision, and our model with its weights, which draws the fixture's noise."""

    def make(dtype, aligned=False):
        fixture, model = Fixture(data, 'ummae_swin', dtype), small(decoder=dict(aligned=aligned)).to(dtype)
        report = load_any(model, fixture.state_dict)
        assert not report.new and not report.resized and report.dropped == ['decoder_pos_embed']
        drawn = SimpleNamespace(**vars(torch) | {'rand': lambda *size, **_: fixture['noise'].clone()})
        monkeypatch.setattr(projects.ummae.compact_swin, 'torch', drawn)
        return fixture, model

    return make


def test_float64_loss_and_gradient_norm(official):
    """As the official code has it: positions in the decoder in another order than the cells."""
    fixture, model = official(torch.float64)
    loss = model(fixture['input'], mask=fixture.mask, mode='loss')['loss_pixel']
    torch.testing.assert_close(loss, fixture['loss_float64'].view(()), rtol=1e-9, atol=0)
    loss.backward()
    total = torch.stack([p.grad.norm() for p in model.parameters()]).norm()
    torch.testing.assert_close(total, fixture['grad_norm_total_float64'].view(()), rtol=1e-8, atol=0)


def test_float64_loss_with_positions_in_their_places(official):
    fixture, model = official(torch.float64, aligned=True)
    mask = fixture['mask_aligned'].bool().unsqueeze(1)
    loss = model(fixture['input'], mask=mask, mode='loss')['loss_pixel']
    assert loss.item() == pytest.approx(fixture.info['loss_aligned_float64'], rel=1e-9)
    other = model(fixture['input'], mask=fixture.mask, mode='loss')['loss_pixel']
    reading = 'decoder position embeddings of visible cells in block order'
    assert other.item() == pytest.approx(fixture.info['loss_under_other_readings'][reading], rel=1e-9)


def test_float32_latent_prediction_and_replaced_cells(official):
    fixture, model = official(torch.float32)
    imgs, mask = fixture['input'], fixture.mask
    loss = model(imgs, mask=mask, mode='loss')['loss_pixel']
    torch.testing.assert_close(loss, fixture['loss'].view(()), rtol=1e-5, atol=0)
    latent = to_tokens(model.encoder(hide(imgs, mask), mask)[0])
    torch.testing.assert_close(latent, fixture['latent'], rtol=0, atol=fixture.tolerance('latent'))
    assert torch.equal(draw_replaced(mask, 0.25) | mask, fixture['secondary_mask'].bool().unsqueeze(1))
    pred = model(imgs, mask=mask, mode='predict')[0]['pixel'].unflatten(1, (3, 16, 16)).permute(0, 4, 5, 2, 3, 1)
    hidden = pred.flatten(3).flatten(1, 2)[mask.flatten(1)].unflatten(0, (2, -1))  # (B, hidden, T), in raster order
    torch.testing.assert_close(hidden, fixture['pred'][:, -hidden.shape[1] :], rtol=0, atol=fixture.tolerance('pred'))


def test_as_many_visible_cells_are_replaced_as_officially(data):
    cases = json.loads((data / 'ummae_mask_statistics.json').read_text())['secondary_masking']['cases']
    for case, size in zip(cases, (224, 256), strict=True):
        mask = uniform(400, (size, size))
        visible = case['visible_after_primary']
        chosen = draw_replaced(mask, case['vis_mask_ratio'], visible)
        assert not (chosen & mask).any()
        assert (chosen.flatten(1).sum(1) == case['replaced_by_vis_mask_token']).all()
        share = chosen.flatten(1).float().mean(0) / (~mask).flatten(1).float().mean(0)
        assert share.mean().item() == pytest.approx(case['P_replaced_given_visible'], abs=0.01)
        assert share.min() > 0.08  # every place is


@pytest.mark.parametrize('size', [(4, 6), (8, 12), (16, 24)])
def test_visible_cells_move_together_and_back(size):
    mask = uniform(3, (32, 48), unit=8)  # 4 x 6 cells
    x = torch.randn(3, 5, *size)
    moved = compact(x, mask)
    assert moved.shape[2:] == (size[0] // 2, size[1] // 2)
    assert torch.equal(spread(moved, mask), hide(x, mask))
    unit = size[0] // 4
    row, column = (~mask[1, 0, 2:4, 4:6]).nonzero()[0]
    cell = x[1, :, (2 + row) * unit : (3 + row) * unit, (4 + column) * unit : (5 + column) * unit]
    assert torch.equal(moved[1, :, unit : 2 * unit, 2 * unit : 3 * unit], cell)


@pytest.mark.parametrize(('window', 'cell'), [((4, 4), 4), ((2, 3), 4), ((2, 2), 1), ((3, 2), 0.5)])
def test_the_bias_is_that_of_the_places_of_query_and_key(window, cell):
    """By pairs, where the code goes over the differences that occur."""
    layers = torch.nn.Sequential(torch.nn.Conv2d(2, 5, 1), torch.nn.ReLU(), torch.nn.Conv2d(5, 3, 1)).double()
    attn, unit = SimpleNamespace(posmlp=layers), max(1, int(cell))  # positions of places per side of a cell
    height, width = (unit * -(-n // unit) for n in (4 * window[0], 6 * window[1]))  # whole blocks, if windows are
    height, width = (n + n % (2 * unit) for n in (height, width))
    axes = (torch.arange(n, dtype=torch.float32) for n in (height, width))
    whole = torch.stack(torch.meshgrid(*axes, indexing='ij')).expand(2, -1, -1, -1)
    places = compact(whole, uniform(2, (height, width), unit)) * min(1, cell)
    places = places[:, :, : 2 * window[0], : 3 * window[1]].permute(0, 2, 3, 1)  # 6 windows of each image
    first = places[1, : window[0], : window[1]].flatten(0, 1)  # (W, 2)
    d = (first[None, :] - first[:, None]).double()  # (query, key, 2)
    expected = layers((d.sign() * d.abs().log1p()).permute(2, 0, 1)[None])[0]
    q = torch.zeros(1, dtype=torch.float64)
    bias = mlp_bias(attn, q, None, find_distances(window, q.device, places, cell=cell))
    assert bias.shape[:3] == (2, 6, 3)
    torch.testing.assert_close(bias[1, 0], expected)


def test_whole_maps_have_the_mlp_bias_their_grid():
    """A plain image is one whose places are those of its grid."""
    layers = torch.nn.Sequential(torch.nn.Conv2d(2, 5, 1), torch.nn.ReLU(), torch.nn.Conv2d(5, 3, 1))
    attn, q = SimpleNamespace(posmlp=layers), torch.zeros(1)
    grid = torch.stack(torch.meshgrid(torch.arange(4), torch.arange(6), indexing='ij'), -1).float()[None]
    whole, given = (mlp_bias(attn, q, None, find_distances((2, 3), q.device, places)) for places in (None, grid))
    torch.testing.assert_close(whole.expand_as(given[0]), given[0])


@pytest.mark.parametrize('larger', [1, 2])
def test_noise_in_hidden_pixels_changes_nothing(larger):
    model = randomized(small(masking=dict(unit=16 * larger))).eval()
    imgs = images(size=(128, 192))
    mask = model.masking(imgs)
    hidden = upsample(mask, imgs.shape[-2:])
    predictions = []
    for x in (imgs, torch.where(hidden, torch.nan, imgs), torch.where(hidden, imgs, imgs + 1)):
        torch.manual_seed(0)  # the replaced cells
        predictions.append(model(x, mask=mask, mode='predict')[0]['pixel'])
    assert torch.equal(*predictions[:2])
    assert not torch.equal(predictions[0], predictions[2])


def test_every_parameter_learns_and_the_loss_falls():
    torch.manual_seed(0)
    model = randomized(small()).train()
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-2)
    imgs, losses = images(4, size=(128, 192)), []
    for _ in range(5):
        loss = model(imgs, mode='loss')['loss_pixel']
        optimizer.zero_grad()
        loss.backward()
        assert all(p.grad is not None and p.grad.any() for p in model.parameters())
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < losses[0]


@pytest.mark.parametrize('size', [(64, 64), (90, 70)])
def test_the_backbone_takes_images_of_any_size_and_has_no_token_of_pretraining(size):
    config = SMALL | dict(replaced=0.0, out_indices=(0, 1, 2, 3), out_norms=True, final_norm=False, frozen_stages=2)
    encoder = build(Encoder, config).train()
    maps = encoder(images(size=size))
    assert [tuple(x.shape[1:]) for x in maps] == [(4 * 2**i, *(-(-n // (4 << i)) for n in size)) for i in range(4)]
    assert not hasattr(encoder, 'mask_token')
    learning = {name.split('.')[2] for name, p in encoder.named_parameters() if p.requires_grad and 'layers' in name}
    assert learning == {'2', '3'}


def test_a_pretrained_encoder_becomes_a_backbone(tmp_path):
    model = randomized(small())
    torch.save({'state_dict': model.state_dict()}, tmp_path / 'pretrained.pth')
    init = dict(type='Pretrained', checkpoint=str(tmp_path / 'pretrained.pth'), prefix='encoder')
    backbone = build(Encoder, SMALL | dict(replaced=0.0, out_indices=(0, 1), final_norm=False, init_cfg=init))
    backbone.init_weights()
    theirs = model.encoder.state_dict()
    assert all(torch.equal(value, theirs[name]) for name, value in backbone.state_dict().items())


@pytest.mark.parametrize(
    ('changes', 'words'),
    [
        (dict(masking=dict(ratio=0.8)), 'block=2 and ratio=0.75, not block=2 and ratio=0.8'),
        (dict(masking=dict(type='RandomMasking')), 'needs a UniformMasking, not a RandomMasking'),
        (dict(masking=dict(unit=24)), 'Stride 16 of the decoder does not divide mask unit 24'),
        (dict(decoder=dict(type='TransformerDecoder')), 'needs a CompactDecoder'),
        (dict(encoder=dict(mask_token=True)), 'leave mask_token=True out'),
        (dict(encoder=dict(replaced=1)), 'replaced=1 must be a fraction'),
    ],
)
def test_parts_that_do_not_fit(changes, words):
    with pytest.raises(UserError, match=words):
        small(**changes)


def test_images_and_masks_that_do_not_fit():
    with pytest.raises(UserError, match='48 x 64 pixels, which the deepest stride 32 does not divide: .* 64 pixels'):
        small()(images(size=(96, 128)), mode='loss')
    with pytest.raises(UserError, match='3 x 4 cells cannot be divided into blocks'):
        small()(images(size=(48, 64)), mask=torch.ones(2, 1, 3, 4).tril(-1).bool(), mode='loss')
    mask = torch.zeros(2, 1, 4, 4, dtype=torch.bool)
    mask[:, :, :3] = True
    with pytest.raises(UserError, match='leaves 0 to 2 of each 2 x 2 cells visible'):
        small()(images(size=(64, 64)), mask=mask, mode='loss')


def test_the_config_has_the_published_numbers(root):
    cfg = load_config(root / 'projects/ummae/configs/ummae_swin-t_200e_imagenet.py')
    assert cfg.auto_scale_lr.base_batch_size == 4096
    assert cfg.optim_wrapper.type == 'AmpOptimWrapper' and 'clip_grad' not in cfg.optim_wrapper
    optimizer = cfg.optim_wrapper.optimizer
    assert optimizer.lr == pytest.approx(1.5e-4 * 4096 / 256)
    assert (optimizer.type, tuple(optimizer.betas), optimizer.weight_decay) == ('AdamW', (0.9, 0.95), 0.05)
    warmup, cosine = cfg.param_scheduler
    assert (cfg.train_cfg.max_epochs, warmup.end, cosine.begin, cosine.eta_min) == (200, 10, 10, 0)
    crop = cfg.train_dataloader.dataset.pipeline[0]
    assert (crop.size, tuple(crop.scale), crop.interpolation) == (256, (0.2, 1.0), 'bicubic')
    cfg.model.data_preprocessor = None
    with torch.device('meta'):
        model = build_model(cfg)
    body, decoder = model.encoder.body, model.decoder
    assert [len(stage.blocks) for stage in body.layers] == [2, 2, 6, 2]
    assert [stage.blocks[0].attn.num_heads for stage in body.layers] == [3, 6, 12, 24]
    assert (body.embed_dim, model.encoder.window, model.encoder.replaced) == (96, 8, 0.25)
    assert (model.masking.unit, model.masking.count_hidden(256), model.masking.balanced) == (16, 192, True)
    assert (decoder.out_channels, decoder.out_stride, len(decoder.blocks)) == (512, 16, 2)
    assert decoder.blocks[0].attn.num_heads == 16
    assert model.objectives['pixel'].target.norm_pix and model.objectives['pixel'].target.stride == 16
