"""The transformer decoders, beyond the laws."""

import pytest
import torch
from torch.nn.functional import layer_norm, pixel_unshuffle

from mae_toolkit.errors import UserError
from mae_toolkit.flops import count_flops
from mae_toolkit.models import Cells, Decoder, Features
from mae_toolkit.models.layers.cross_attention import CrossAttentionBlock
from mae_toolkit.models.layers.level_fusion import LevelFusion
from mae_toolkit.models.mask_ops import hide, upsample
from mae_toolkit.registry import MODELS, build, list_arguments
from parts import DECODERS, images, make_model, randomized

LEVELS = {'in_channels': (4, 6, 6), 'in_strides': (4, 8, 8), 'grid': (4, 6)}
SIZE = (4, 6)  # of the deepest map
transformers = pytest.mark.parametrize(
    'name', [name for name, config in DECODERS.items() if 'num_heads' in list_arguments(MODELS.get(config['type']))]
)


def make(name='CrossAttentionDecoder', **changes):
    """A decoder with random parameters, in double precision."""
    return randomized(build(Decoder, DECODERS[name] | LEVELS | changes)).double().train()


def features_of(mask, prefix=False, size=SIZE, seed=0):
    """Random levels, zero where hidden; prefix tokens only where all levels are of one kind."""
    generator = torch.Generator().manual_seed(seed)
    kinds = ((6, 1),) * 3 if prefix else ((4, 2), (6, 1), (6, 1))
    maps = [torch.randn(2, c, *(n * fold for n in size), generator=generator).double() for c, fold in kinds]
    prefixes = [torch.randn(2, 1, 6, generator=generator).double() if prefix else None for _ in kinds]
    return Features(tuple(hide(x, mask) for x in maps), tuple(prefixes))


def cells(count, size=SIZE, seed=0):
    """A mask (2, 1, h, w) with so many True cells per image, others in each."""
    order = torch.rand(2, size[0] * size[1], generator=torch.Generator().manual_seed(seed)).argsort(1)
    return (order < count).view(2, 1, *size)


@pytest.mark.parametrize('unit', [1, 2])
@pytest.mark.parametrize('prefix', [False, True])
@pytest.mark.parametrize('self_attn', [False, True])
def test_decoded_cells_are_the_same_whether_others_are_decoded(unit, prefix, self_attn):
    """Also where a cell of the mask has several positions on the map, and where queries see each other."""
    given = {'in_channels': (6,) * 3, 'in_strides': (8,) * 3} if prefix else {}
    decoder = make(**given, self_attn=self_attn)
    grid = tuple(n // unit for n in SIZE)
    mask = cells(4, grid)
    predict = cells(2, grid) & mask
    features = features_of(mask, prefix)
    num_visible, count = grid[0] * grid[1] - 4, 2
    some = decoder(features, Cells(mask, predict, num_visible, count))
    every = decoder(features, Cells(mask, predict, num_visible))
    chosen = upsample(predict, SIZE)
    torch.testing.assert_close(some, hide(every, ~chosen), rtol=1e-12, atol=1e-12)
    assert torch.equal((some != 0).any(1, keepdim=True), chosen)
    assert (every != 0).all()


def test_queries_attend_to_each_other_before_the_context():
    """CrossMAE's own order: a norm, attention among the queries, and then the block as it is without."""
    block = randomized(CrossAttentionBlock(6, 4, 2, 2.0, torch.nn.LayerNorm, self_attn=True)).double()
    plain = CrossAttentionBlock(6, 4, 2, 2.0, torch.nn.LayerNorm).double()
    plain.load_state_dict({k: v for k, v in block.state_dict().items() if not k.startswith(('norm0', 'self_attn'))})
    x, context = torch.randn(2, 5, 6).double(), torch.randn(2, 3, 4).double()
    q, k, v = block.self_attn.qkv(block.norm0(x)).unflatten(-1, (3, 2, 3)).permute(2, 0, 3, 1, 4)
    mixed = ((q @ k.mT / 3**0.5).softmax(-1) @ v).transpose(1, 2).flatten(2)
    torch.testing.assert_close(block(x, context), plain(x + block.self_attn.proj(mixed), context))
    seen = torch.tensor([True, False, True, True, False])[None, None, None]
    kept = block(x[:, seen.flatten()], context)
    torch.testing.assert_close(block(x, context, seen)[:, seen.flatten()], kept)


def test_the_work_is_proportional_to_what_is_predicted():
    """Beside what the visible tokens cost, which does not depend on it."""
    decoder = make()
    mask = cells(18)
    features = features_of(mask)
    flops = {n: count_flops(lambda n=n: decoder(features, Cells(mask, cells(n), 6, n))) for n in (1, 3, 9, 18)}
    each = (flops[3] - flops[1]) // 2
    assert each > 0
    assert [flops[n] - flops[1] for n in (9, 18)] == [8 * each, 17 * each]
    assert flops[1] - each == count_flops(lambda: decoder._mixtures(features, None)) * 6 // 24 + keys_and_values(
        decoder
    )


def keys_and_values(decoder):
    """Operations of the layers over 6 visible tokens of two images in each block."""
    return sum(2 * 2 * 6 * block.cross_attn.kv.weight.numel() for block in decoder.blocks)


def test_queries_see_visible_tokens_and_not_each_other():
    decoder = make()
    mask = cells(18)
    features = features_of(mask)
    places = torch.zeros(24, 16, dtype=torch.float64, requires_grad=True)
    decoder.positions.table = places
    decoder(features, Cells(mask, torch.ones_like(mask)))[0, :, 1, 2].sum().backward()
    assert places.grad[8].any() and not torch.cat([places.grad[:8], places.grad[9:]]).any()


def test_each_block_mixes_the_levels_in_its_own_way():
    decoder = make(in_channels=(6,) * 3, in_strides=(8,) * 3)
    mask = cells(18)
    features, other = features_of(mask, prefix=True), features_of(mask, prefix=True, seed=1)
    with torch.no_grad():
        decoder.level_weights[:, 1] = 0
    middle = Features(*((a[0], b[1], a[2]) for a, b in zip(features, other, strict=True)))
    before = decoder(features, Cells(mask))
    torch.testing.assert_close(decoder(middle, Cells(mask)), before)  # a level without weight does not count
    for block in range(2):
        mixtures = decoder._mixtures(features, None)
        expected = sum(w * x for w, x in zip(decoder.level_weights[block], features.maps, strict=True))
        torch.testing.assert_close(mixtures[block, :, 1:], expected.flatten(2).mT)
        expected = sum(w * x for w, x in zip(decoder.level_weights[block], features.prefixes, strict=True))
        torch.testing.assert_close(mixtures[block, :, :1], expected)


def test_the_published_decoder_has_no_projections():
    keys = make(in_channels=(6,) * 3, in_strides=(8,) * 3).state_dict()
    assert not [key for key in keys if 'projections' in key]
    assert keys['level_weights'].shape == (2, 3)
    assert [key for key in make().state_dict() if 'projections' in key] == [
        'projections.0.weight',
        'projections.0.bias',
    ]


def test_mixtures_begin_with_the_spread_of_one_level():
    torch.manual_seed(0)
    decoder = build(Decoder, DECODERS['CrossAttentionDecoder'] | {'in_channels': (8,) * 25, 'in_strides': (8,) * 25})
    assert decoder.level_weights.std().item() == pytest.approx(0.2, rel=0.25)


def test_fusion_folds_maps_and_adds_and_normalizes():
    fusion = randomized(LevelFusion((4, 6, 6), (4, 8, 8))).double()
    features = features_of(torch.zeros(2, 1, *SIZE, dtype=torch.bool))
    (ours,), prefixes = fusion(features)
    assert prefixes == (None,)
    coarse, same, deepest = features.maps
    folded = pixel_unshuffle(coarse, 2).flatten(2).mT  # (B, L, C*2*2), channel first
    linear = [folded @ fusion.heads[0].weight.flatten(1).T, same.flatten(2).mT @ fusion.heads[1].weight.flatten(1).T]
    x = sum(linear) + fusion.heads[0].bias + fusion.heads[1].bias + deepest.flatten(2).mT
    expected = layer_norm(x, (6,), fusion.norm.weight, fusion.norm.bias, 1e-6)
    torch.testing.assert_close(ours.flatten(2).mT, expected)


def test_fusion_normalizes_prefix_tokens_of_the_deepest_level():
    fusion = randomized(LevelFusion((6,) * 3, (8,) * 3)).double()
    features = features_of(torch.zeros(2, 1, *SIZE, dtype=torch.bool), prefix=True)
    torch.testing.assert_close(fusion(features).prefixes[0], fusion.norm(features.prefixes[2]))


def test_checkpoints_of_plain_decoders_keep_their_keys():
    keys = {key.split('.')[0] for key in make('TransformerDecoder').state_dict()}
    assert keys == {'embed', 'mask_token', 'blocks', 'norm'}
    keys = set(make('TransformerDecoder', fusion=True, positions='learned').state_dict())
    assert {'embed.0.weight', 'positions.pos_embed', 'fusion.heads.1.weight', 'fusion.norm.bias'} <= keys
    assert not {'embed.1.weight', 'fusion.heads.2.weight'} & keys


@transformers
def test_recomputed_blocks_give_the_same(name):
    decoder, again = make(name), make(name, with_cp=True)
    again.load_state_dict(decoder.state_dict())
    mask = cells(18)
    results = [d(features_of(mask), Cells(mask)) for d in (decoder, again)]
    for x in results:
        x.square().sum().backward()
    torch.testing.assert_close(*results)
    for a, b in zip(decoder.parameters(), again.parameters(), strict=True):
        torch.testing.assert_close(a.grad, b.grad)


@transformers
@pytest.mark.parametrize('size', [(32, 48), (64, 24), (16, 16)])
def test_any_size(name, size):
    masking = {'type': 'RandomMasking', 'predict_ratio': 0.5}
    model = make_model('ViT learned positions, registers, levels', masking, name)
    predictions, _ = model(images(size=size), mode='predict')
    assert predictions['pixel'].shape == (2, 192, size[0] // 8, size[1] // 8)
    model(images(size=size), mode='loss')['loss_pixel'].backward()


@transformers
def test_mixed_precision(name):
    masking = {'type': 'RandomMasking', 'predict_ratio': 0.5}
    model = make_model('ViT learned positions, registers, levels', masking, name)
    with torch.autocast('cpu', torch.bfloat16):
        loss = model(images(), mode='loss')['loss_pixel']
    loss.backward()
    assert loss.isfinite()
    assert all(p.grad.dtype is torch.float32 for p in model.decoder.parameters())


def test_learned_positions_are_those_of_the_cell():
    """On their own grid as they are, on another one resized."""
    decoder = make('TransformerDecoder', positions='learned')
    table = decoder.positions.pos_embed[0]
    assert torch.equal(decoder.positions(SIZE), table)
    assert decoder.positions((8, 6)).shape == (48, 16)
    with torch.no_grad():
        table.copy_(torch.arange(4.0)[:, None, None].expand(4, 6, 16).flatten(0, 1))  # the row
    rows = decoder.positions((4, 3))[:, 0].view(4, 3)  # resized in single precision
    torch.testing.assert_close(rows.float(), torch.arange(4.0)[:, None].expand(4, 3))
    assert decoder.positions.no_weight_decay() == {'pos_embed'}


def test_what_cannot_be_is_refused():
    with pytest.raises(UserError, match=r"positions='learned' needs a size .* grid=\(rows, columns\)"):
        make_model('ConvNeXt', decoder=DECODERS['TransformerDecoder'] | {'positions': 'learned'})
    with pytest.raises(UserError, match="positions='rotary' must be 'sincos' or 'learned'"):
        make('TransformerDecoder', positions='rotary')
    for name in ('TransformerDecoder', 'CrossAttentionDecoder'):
        with pytest.raises(UserError, match=f'{name}: depth=0'):
            make(name, depth=0)
        with pytest.raises(UserError, match=f'{name}: num_heads=3 must divide embed_dim=16'):
            make(name, num_heads=3)
        with pytest.raises(UserError, match='a multiple of 4 channels, not 6'):
            make(name, embed_dim=6, grid=None)
