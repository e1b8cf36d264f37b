"""ViT for dense tasks: windows, relative positions, and the pyramid behind it."""

import pytest
import torch
from torch import nn

from mae_toolkit.errors import UserError
from mae_toolkit.models import Encoder, SimplePyramid, ViT
from mae_toolkit.models.layers.relative_positions import RelativePositions, look_up_table_bias
from mae_toolkit.models.mask_ops import hide
from mae_toolkit.registry import build
from parts import ENCODERS, VIT, images, make_encoder, randomized

WINDOWS = {'type': 'ViT', **VIT, 'depth': 3, 'window_size': 2}


def two(first, second):
    """Two encoders in float64 that share weights as far as they have the same names."""
    first, second = (randomized(build(Encoder, config)).double().eval() for config in (first, second))
    second.load_state_dict(first.state_dict(), strict=False)
    return first, second


def test_windows_confine_attention_except_in_global_blocks():
    """A pixel changes its own window of 2 x 2 tokens alone, and through a global block everything."""
    for global_blocks, everything in (((), False), ((1,), True)):
        encoder = randomized(build(Encoder, WINDOWS | {'global_blocks': global_blocks})).double().eval()
        x, y = images().double(), images().double()
        y[:, :, 17, 17] += 1  # in the token (2, 2), whose window is rows 2-3 and columns 2-3
        changed = (encoder(x)[0] != encoder(y)[0]).any(1)
        expected = torch.full_like(changed, everything)
        expected[:, 2:4, 2:4] = True
        assert torch.equal(changed, expected)


def test_a_window_as_large_as_the_map_is_no_window():
    plain, windowed = two({'type': 'ViT', **VIT, 'class_token': False}, WINDOWS | {'depth': 2, 'window_size': 6})
    x = images(size=(48, 48)).double()
    torch.testing.assert_close(windowed(x)[0], plain(x)[0], rtol=1e-9, atol=1e-9)


def test_windows_at_a_border_are_padded():
    encoder = randomized(build(Encoder, WINDOWS | {'window_size': 3})).double().eval()
    assert encoder(images().double())[0].shape == (2, 24, 4, 6)
    mask = torch.zeros(2, 1, 4, 6, dtype=torch.bool)
    mask[:, :, 1:3, 2:4] = True
    maps = encoder(hide(images().double(), mask), mask)[0]
    assert maps.isfinite().all()
    assert torch.equal((maps != 0).any(1, keepdim=True), ~mask)


def test_relative_positions_that_are_zero_change_nothing():
    plain, relative = two(
        {'type': 'ViT', **VIT, 'class_token': False}, {'type': 'ViT', **VIT, 'class_token': False, 'rel_pos': True}
    )
    for p in relative.rel_pos.parameters():
        nn.init.zeros_(p)
    x = images().double()
    torch.testing.assert_close(relative(x)[0], plain(x)[0], rtol=1e-12, atol=1e-12)


def test_relative_positions_are_those_of_the_formula():
    """q . R_rows[y_q - y_k + h - 1] + q . R_columns[x_q - x_k + w - 1] for each pair, one by one."""
    positions = randomized(RelativePositions(4, (3, 2))).double()
    q = torch.randn(2, 5, 6, 4, dtype=torch.float64, generator=torch.Generator().manual_seed(0))  # (B, heads, S, d)
    bias = positions(q, (3, 2))
    for i in range(6):
        for j in range(6):
            rows, columns = positions.rows[i // 2 - j // 2 + 2], positions.columns[i % 2 - j % 2 + 1]
            torch.testing.assert_close(bias[:, :, i, j], q[:, :, i] @ (rows + columns))
    places = torch.tensor([[5, 0, 3], [2, 2, 1]])  # some places, others in each image
    some = torch.stack([q[b, :, places[b]] for b in range(2)])
    expected = torch.stack([bias[b][:, places[b]][:, :, places[b]] for b in range(2)])
    torch.testing.assert_close(positions(some, (3, 2), places[:, :, None] * 6 + places[:, None]), expected)


def test_relative_positions_stretch_to_other_sizes():
    positions = randomized(RelativePositions(4, (3, 2)))
    assert positions(torch.randn(1, 2, 20, 4), (5, 4)).shape == (1, 2, 20, 20)
    table = torch.randn(5 * 3 + 3, 2)
    assert look_up_table_bias(table, (3, 2), (4, 5)).shape == (1, 2, 21, 21)
    assert torch.equal(look_up_table_bias(table, (3, 2), (4, 5))[0, :, 0, 0], table[-1])  # the class token with itself


@pytest.mark.parametrize(
    ('options', 'words'),
    [
        ({'window_size': 2, 'reg_tokens': 2}, 'window_size=2 has no place for the 2 prefix tokens'),
        ({'rel_pos': True}, 'rel_pos has no place for the 1 prefix tokens: set class_token=False'),
        ({'global_blocks': 1}, r'global_blocks=.1,. needs window_size'),
        ({'window_size': 2, 'class_token': True}, 'has no place for the 1 prefix tokens'),
        ({'window_size': 0}, 'window_size=0 must be a whole number of tokens'),
        ({'window_size': 2, 'global_blocks': (7,)}, 'global_blocks .7,. reach beyond the 2 blocks 0 to 1'),
        ({'window_size': 2, 'arch': 'beit_base_patch16_224'}, 'plain transformer blocks, which .beit_base'),
    ],
)
def test_windows_that_cannot_be(options, words):
    with pytest.raises(UserError, match=words):
        ViT(**(VIT | options))


def test_weights_of_pretraining_load_into_a_detector_backbone(tmp_path):
    """With the class token dropped and its place in the table of positions, at another size."""
    trained = make_encoder('ViT', positions='learned')
    state = {f'encoder.{name}': value for name, value in trained.state_dict().items()}
    meta = {'position_grids': {'encoder.body.pos_embed': [4, 6]}}
    torch.save({'state_dict': state, 'meta': meta}, tmp_path / 'epoch_1.pth')
    init_cfg = {'type': 'Pretrained', 'checkpoint': str(tmp_path / 'epoch_1.pth'), 'prefix': 'encoder'}
    options = {'positions': 'learned', 'window_size': 2, 'global_blocks': (1,), 'rel_pos': True, 'final_norm': False}
    backbone = build(Encoder, ENCODERS['ViT'] | options | {'init_cfg': init_cfg})
    backbone.init_weights()
    own = trained.body.pos_embed[:, 1:]
    assert torch.equal(backbone.body.pos_embed, own)
    assert torch.equal(backbone.body.blocks[1].mlp.fc1.weight, trained.body.blocks[1].mlp.fc1.weight)
    assert not any(p.any() for p in backbone.rel_pos.parameters())
    larger = build(Encoder, ENCODERS['ViT'] | options | {'init_cfg': init_cfg, 'img_size': (64, 64)})
    larger.init_weights()
    assert larger.body.pos_embed.shape == (1, 64, 24)


def test_the_pyramid_has_the_strides_of_a_detector():
    neck = SimplePyramid(in_channels=(24,), out_channels=8, num_outs=5)
    x = torch.randn(2, 24, 4, 6)
    maps = neck((x,))
    assert [tuple(m.shape) for m in maps] == [(2, 8, *s) for s in [(16, 24), (8, 12), (4, 6), (2, 3), (1, 2)]]
    sum(m.square().sum() for m in maps).backward()
    assert all(p.grad is not None and p.grad.any() for p in neck.parameters())
    with pytest.raises(UserError, match=r'scale 3 must be a power of two'):
        SimplePyramid(24, scales=(3,))
    with pytest.raises(UserError, match='num_outs=2 is less than the 4 levels'):
        SimplePyramid(24, num_outs=2)


def test_depths_and_what_is_not_decayed_come_from_the_architecture():
    encoder = make_encoder('BEiT, one shared bias')
    assert encoder.layer_depth('mask_token') == (0, 3)
    assert encoder.layer_depth('body.rel_pos_bias.relative_position_bias_table') == (0, 3)
    assert encoder.layer_depth('body.blocks.1.gamma_1') == (2, 3)
    shared = 'body.rel_pos_bias.relative_position_bias_table'
    assert encoder.no_weight_decay() == {'mask_token', 'body.cls_token', shared}
    windows = make_encoder('ViT, windows and relative positions')
    assert windows.layer_depth('rel_pos.1.rows') == (2, 3)
    assert {'body.pos_embed', 'rel_pos.0.rows', 'rel_pos.1.columns'} <= windows.no_weight_decay()
    assert make_encoder('Swin V2').no_weight_decay() >= {'body.layers.0.blocks.0.attn.logit_scale'}
    assert make_encoder('SparseCNN').no_weight_decay() == set()


def test_wrong_positions_are_seen(monkeypatch):
    """A mutant: BEiT's bias of the first tokens, not of those that are visible."""
    import test_laws as laws
    from mae_toolkit.models.layers import vit_blocks

    def of_the_first(table, window, size, ids=None):
        first = None if ids is None else torch.arange(ids.shape[1]).expand_as(ids)
        return look_up_table_bias(table, window, size, first)

    laws.test_3_crop_law('BEiT, visible tokens')
    monkeypatch.setattr(vit_blocks, 'look_up_table_bias', of_the_first)
    with pytest.raises(AssertionError):
        laws.test_3_crop_law('BEiT, visible tokens')


def saved(tmp_path, encoder, recorded):
    state = {f'encoder.{name}': value for name, value in encoder.state_dict().items()}
    meta = {'position_grids': {'encoder.body.pos_embed': list(encoder.position_grid)}} if recorded else {}
    torch.save({'state_dict': state, 'meta': meta}, tmp_path / 'epoch_1.pth')
    return {'type': 'Pretrained', 'checkpoint': str(tmp_path / 'epoch_1.pth'), 'prefix': 'encoder'}


@pytest.mark.parametrize('size', [(32, 48), (64, 64)])
@pytest.mark.parametrize('recorded', [True, False])
@pytest.mark.parametrize('tokens', [{}, {'reg_tokens': 2}, {'no_embed_class': True, 'reg_tokens': 1}])
def test_positions_of_tokens_that_the_backbone_lacks_are_left(tmp_path, tokens, recorded, size):
    trained = make_encoder('ViT', positions='learned', **tokens)
    init_cfg = saved(tmp_path, trained, recorded)
    options = {'positions': 'learned', 'window_size': 2, 'img_size': size, 'init_cfg': init_cfg}
    backbone = build(Encoder, ENCODERS['ViT'] | options)
    if not recorded and size != (32, 48):
        with pytest.raises(UserError, match='does not say on which rows and columns'):
            backbone.init_weights()
        return
    backbone.init_weights()
    own = trained.body.pos_embed[:, -24:]
    if size == (32, 48):
        assert torch.equal(backbone.body.pos_embed, own)
    else:
        expected = nn.functional.interpolate(own.mT.unflatten(2, (4, 6)), (8, 8), mode='bicubic', antialias=True)
        torch.testing.assert_close(backbone.body.pos_embed, expected.flatten(2).mT)


def test_relative_positions_are_stretched_on_loading(tmp_path):
    trained = make_encoder('ViT, windows and relative positions')
    init_cfg = saved(tmp_path, trained, recorded=True)
    config = ENCODERS['ViT, windows and relative positions'] | {'img_size': (64, 64), 'init_cfg': init_cfg}
    larger = build(Encoder, config)
    larger.init_weights()
    assert torch.equal(larger.rel_pos[0].rows, trained.rel_pos[0].rows)  # within windows
    assert larger.rel_pos[1].rows.shape == (15, 8) and larger.rel_pos[1].rows.any()


@pytest.mark.parametrize(
    'arch', ['vit_small_patch16_18x2_224', 'vit_base_patch16_xp_224', 'vit_dpwee_patch16_reg1_gap_256']
)
def test_blocks_of_other_kinds_run_as_timm_has_them(arch):
    encoder = ViT(arch, depth=1, embed_dim=24, num_heads=2, img_size=32, patch_size=8)
    assert encoder(images(size=(32, 32)))[0].shape == (2, 24, 4, 4)


@pytest.mark.parametrize('size', [(32, 48), (40, 56)])
def test_padding_of_windows_is_not_seen(size):
    """With nothing hidden the same tokens see each other as in whole images."""
    encoder = randomized(build(Encoder, WINDOWS | {'window_size': 3, 'rel_pos': True})).double().eval()
    x = images(size=size).double()
    none = torch.zeros(2, 1, size[0] // 8, size[1] // 8, dtype=torch.bool)
    torch.testing.assert_close(encoder(x)[0], encoder(x, none)[0], rtol=1e-9, atol=1e-9)
