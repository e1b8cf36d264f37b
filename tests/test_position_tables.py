"""Tables of positions of other sizes: resized from the right grid, and refused where nobody knows it."""

import pytest
import timm
import torch
from timm.layers import resample_abs_pos_embed, resize_rel_pos_bias_table

from mae_toolkit.checkpoints.files import GRIDS
from mae_toolkit.checkpoints.load import load_any, load_state
from mae_toolkit.checkpoints.positions import GridPolicy, resize_position_table, table_grids
from mae_toolkit.errors import UserError
from mae_toolkit.models.mask_ops import to_map
from parts import DECODERS, ENCODERS, make_model, randomized
from tiny import QUICKSTART, refuse, run_here

POSITIONS = 'encoder.body.pos_embed'
LEARNED = ENCODERS['ViT'] | {'positions': 'learned'}


def model(encoder=LEARNED, **changes):
    return randomized(make_model(encoder=encoder | changes))


def state_of(module):
    return {k: v.clone() for k, v in module.state_dict().items()}


@pytest.mark.parametrize(
    ('count', 'own', 'policy', 'expected'),
    [
        (144, (8, 18), GridPolicy.OURS, (8, 18)),  # a checkpoint of ours for the same config
        (144, (12, 12), GridPolicy.OURS, (12, 12)),
        (144, (4, 6), GridPolicy.OURS, None),
        (144, (8, 18), GridPolicy.SQUARE, (12, 12)),  # as many positions, but not the same ones
        (144, (4, 6), GridPolicy.SQUARE, (12, 12)),
        (128, (8, 16), GridPolicy.SQUARE, None),
        (144, (12, 12), GridPolicy.EITHER, (12, 12)),
        (144, (8, 18), GridPolicy.EITHER, None),  # timm's releases are 12 x 12, what we export is 8 x 18
        (144, (4, 6), GridPolicy.EITHER, (12, 12)),
        (128, (8, 16), GridPolicy.EITHER, (8, 16)),
        (128, (4, 6), GridPolicy.EITHER, None),
    ],
)
def test_the_grid_of_a_table_is_known_or_an_error(count, own, policy, expected):
    table, mine = torch.randn(1, count + 1, 3), torch.zeros(1, own[0] * own[1] + 1, 3)
    if expected is None:
        with pytest.raises(UserError, match=rf'{count} positions.* {own[0]} x {own[1]} .*--grid ROWS COLUMNS'):
            resize_position_table(POSITIONS, table, mine, own, policy=policy)
        return
    ours, how = resize_position_table(POSITIONS, table, mine, own, policy=policy)
    from_file, _ = resize_position_table(POSITIONS, table, mine, own, source_grid=expected)
    assert torch.equal(ours, from_file)
    assert how == (None if expected == own else f'{expected[0]} x {expected[1]} to {own[0]} x {own[1]}')
    torch.testing.assert_close(ours, resample_abs_pos_embed(table, list(own), list(expected), num_prefix_tokens=1))


def test_a_grid_that_is_told_must_fit():
    with pytest.raises(UserError, match='holds 144 positions, not the 128 of a grid of 8 x 16'):
        resize_position_table(POSITIONS, torch.zeros(1, 145, 3), torch.zeros(1, 25, 3), (4, 6), source_grid=(8, 16))


def test_a_vertical_stripe_stays_one():
    """8 x 18 read as 12 x 12 would be a diagonal pattern."""
    table = torch.zeros(1, 8, 18, 1)
    table[:, :, 9:] = 1
    ours, _ = resize_position_table(
        POSITIONS, table.flatten(1, 2), torch.zeros(1, 16 * 36, 1), (16, 36), source_grid=(8, 18)
    )
    columns = to_map(ours, (16, 36))[0, 0]
    assert (columns - columns[0]).abs().max() < 1e-5
    assert columns[0, :16].max() < 0.1 and columns[0, 20:].min() > 0.9


@pytest.mark.parametrize('learned', [True, False])
def test_our_vit_at_another_size(learned):
    encoder = LEARNED if learned else ENCODERS['ViT']
    old, new = model(encoder), model(encoder, img_size=(48, 64))
    state, grids = state_of(old), table_grids(old)
    assert grids == {POSITIONS: (4, 6)}
    report = load_state(new, state, grids=grids)
    assert report.resized == [f'{POSITIONS} (4 x 6 to 6 x 8)']
    assert not report.new and not report.dropped
    expected = resample_abs_pos_embed(state[POSITIONS], [6, 8], [4, 6], num_prefix_tokens=1)
    assert torch.equal(new.encoder.body.pos_embed, expected)
    with pytest.raises(UserError, match='--grid'):
        load_state(new, state)  # 24 positions, and the file does not say 4 x 6
    same = load_state(model(encoder), state)
    assert POSITIONS in same.loaded


def test_our_swin_with_another_window():
    swin = ENCODERS['Swin'] | {'out_indices': (0, 1)}
    old, new = model(swin), model(swin, window_size=(4, 3))
    table = 'encoder.body.layers.0.blocks.1.attn.relative_position_bias_table'
    state, grids = state_of(old), table_grids(old)
    assert set(grids.values()) == {(2, 2)} and len(grids) == 4
    report = load_state(new, state, grids=grids)
    assert f'{table} (2 x 2 to 4 x 3)' in report.resized and len(report.resized) == 4
    expected = resize_rel_pos_bias_table(state[table], (4, 3), new.state_dict()[table].shape, (2, 2))
    assert torch.equal(new.state_dict()[table], expected)
    back = model(swin, window_size=(3, 4))
    assert f'{table} (4 x 3 to 3 x 4)' in load_state(back, state_of(new), grids=table_grids(new)).resized
    wide = state | {table: torch.zeros(9, 3)}
    with pytest.raises(UserError, match=r'\(9, 3\), the model \(\d+, 1\)'):
        load_state(new, wide, grids=grids)


def test_windows_of_official_swins_are_square():
    swin = ENCODERS['Swin'] | {'out_indices': (0, 1), 'window_size': (4, 3)}
    body = timm.create_model(
        'swin_tiny_patch4_window7_224', depths=(2, 2), embed_dim=8, num_heads=(1, 2), window_size=4, num_classes=0
    )
    report = load_any(model(swin), body.state_dict())
    assert len(report.resized) == 4 and all('(4 x 4 to 4 x 3)' in key for key in report.resized)


def test_relative_positions_of_a_whole_image():
    """BEiT's: three values more, for the class token, stay as they are."""
    sizes = {'embed_dim': 24, 'depth': 1, 'num_heads': 3, 'num_classes': 0, 'use_abs_pos_emb': False}
    table = 'rel_pos_bias.relative_position_bias_table'
    shared = sizes | {'use_shared_rel_pos_bias': True, 'use_rel_pos_bias': False}
    old, new = (timm.create_model('beit_base_patch16_224', img_size=size, **shared) for size in ((64, 96), (96, 32)))
    state = state_of(randomized(old))
    assert table_grids(old) == {table: (4, 6)}
    report = load_state(new, state, grids=table_grids(old))
    assert report.resized == [f'{table} (4 x 6 to 6 x 2)']
    assert torch.equal(new.state_dict()[table][-3:], state[table][-3:])
    with pytest.raises(UserError, match=r'77 positions'):
        load_state(new, state)


def test_what_timm_resizes_is_told():
    """DINOv2's names are read by timm, which takes the table for a square."""
    body = timm.create_model(
        'vit_tiny_patch16_224', num_classes=0, img_size=64, patch_size=8, embed_dim=24, depth=2, num_heads=3
    )
    report = load_any(model(), body.state_dict() | {'mask_token': torch.zeros(1, 24)})
    assert report.resized == [f'{POSITIONS} (from a square, by timm)'] and POSITIONS not in report.loaded


def test_computed_buffers_are_no_weights():
    """Some versions save them: they are dropped, and never an error."""
    for name in ('Swin', 'Swin V2'):
        swin = ENCODERS[name] | {'out_indices': (0, 1)}
        old = model(swin)
        extra = {}
        for i, window in ((0, 4), (1, 49)):  # of another window, too
            block = f'layers.0.blocks.{i}'
            extra |= {f'{block}.attn_mask': torch.zeros(3, window, window)}
            extra |= {f'{block}.attn.relative_position_index': torch.zeros(window, window, dtype=torch.int64)}
            extra |= {f'{block}.attn.relative_coords_table': torch.zeros(1, 3, 3, 2)}
        timms = {**old.encoder.body.state_dict(), **extra}
        report = load_any(model(swin), timms)
        assert report.dropped == sorted(extra)
        ours = {**state_of(old), **{f'encoder.body.{k}': v for k, v in extra.items()}}
        assert len(load_any(model(swin), ours).dropped) == len(extra)


def test_our_hiera_at_another_size():
    old, new = model(ENCODERS['Hiera']), model(ENCODERS['Hiera'], img_size=(64, 64))
    state, grids = state_of(old), table_grids(old)
    report = load_state(new, state, grids=grids)
    assert report.resized == [f'{POSITIONS} (8 x 12 to 16 x 16)']
    imgs = torch.randn(1, 3, 64, 64)
    torch.testing.assert_close(new.encoder(imgs)[1], old.encoder(imgs)[1])  # as resizing while it runs


def test_positions_that_a_decoder_learns():
    """Counted at the last stride, so on fewer rows and columns than Hiera's own; ``--grid`` is of the encoder's."""
    hiera = ENCODERS['Hiera'] | {'img_size': (16, 64)}  # as many positions as of a square
    decoder = DECODERS['TransformerDecoder'] | {'positions': 'learned'}
    old, new = make_model(hiera, decoder=decoder), make_model(ENCODERS['Hiera'], decoder=decoder)
    table, state = 'decoder.positions.pos_embed', state_of(old)
    assert table_grids(old) == {POSITIONS: (4, 16), table: (2, 8)}
    expected = [f'{table} (2 x 8 to 4 x 6)', f'{POSITIONS} (4 x 16 to 8 x 12)']
    assert load_state(new, state, grids=table_grids(old)).resized == expected
    theirs = new.decoder.positions((4, 6))
    torch.testing.assert_close(theirs, old.decoder.positions((4, 6)))  # as resizing while it runs
    assert load_any(new, state, grid=(4, 16)).resized == expected
    with pytest.raises(UserError, match=rf'^{POSITIONS} holds 64 .* 8 x 12 has 96.* give them with --grid'):
        load_any(new, state)  # whatever comes first in the file
    with pytest.raises(UserError, match=rf"{table} holds 16 .* give those of the encoder's positions with --grid"):
        load_state(new, {table: state[table]})


def test_hiera_with_two_tables():
    """A table over the image, which says its grid, and one over a mask unit, which has one size."""
    hiera = ENCODERS['Hiera'] | {'arch': 'hiera_small_abswin_256'}
    old, new = model(hiera, global_pos_size=(4, 4)), model(hiera, global_pos_size=(6, 5))
    report = load_state(new, state_of(old))
    assert report.resized == [f'{POSITIONS} (4 x 4 to 6 x 5)']
    assert 'encoder.body.pos_embed_win' in report.loaded
    other = state_of(old) | {'encoder.body.pos_embed_win': torch.randn(1, 8, 6, 6)}
    assert any('pos_embed_win (6 x 6 to' in key for key in load_state(new, other).resized)


@pytest.mark.parametrize(
    ('theirs', 'ours', 'how'),
    [
        ({'reg_tokens': 2}, {}, None),
        ({}, {'reg_tokens': 2}, None),
        ({'no_embed_class': True}, {}, None),
        ({}, {'no_embed_class': True, 'reg_tokens': 1}, None),
        ({'reg_tokens': 2}, {'class_token': False}, None),
        ({'img_size': (48, 48)}, {'reg_tokens': 2}, '6 x 6 to 4 x 6'),
    ],
)
def test_positions_of_other_prefix_tokens(theirs, ours, how):
    """Positions of the image stay; a token for which the file has none gets zero, as nothing was added to it."""
    old, new = model(**theirs), model(**ours)
    report = load_state(
        new,
        state_of(old),
        ['encoder.body.reg_token'],
        ['encoder.body.cls_token', 'encoder.body.reg_token'],
        table_grids(old),
    )
    assert report.resized == ([f'{POSITIONS} ({how})'] if how else [])
    table, own = old.encoder.body.pos_embed, new.encoder.body.pos_embed
    had, has = table.shape[1] - old.encoder.grid[0] * old.encoder.grid[1], own.shape[1] - 24
    assert has in (0, 1, 3)
    assert torch.equal(own[:, : min(had, has)], table[:, : min(had, has)]) and not own[:, had:has].any()
    if not how:
        assert torch.equal(own[:, has:], table[:, had:])


@pytest.mark.parametrize('registers', [0, 2])
def test_positions_of_tokens_that_have_no_place_are_added_to_them(registers):
    """As timm's ``no_embed_class`` has it: the features are the same."""
    old, new = model(reg_tokens=registers), model(reg_tokens=registers, no_embed_class=True)
    assert load_any(new, state_of(old)).resized == []
    imgs = torch.randn(1, 3, 32, 48)
    torch.testing.assert_close(new.encoder(imgs), old.encoder(imgs))


def test_relative_positions_that_all_blocks_share_become_those_of_each():
    """BEiT's and SimMIM's pretraining has one table, their fine-tuning one for each block."""
    beit = {'arch': 'beit_base_patch16_224', 'use_abs_pos_emb': False, 'mask_token': False}
    shared = beit | {'use_shared_rel_pos_bias': True, 'use_rel_pos_bias': False}
    old, new = model(**shared, positions='sincos'), model(**beit, positions='sincos')
    plain = {name.removeprefix('encoder.body.'): v for name, v in state_of(old).items() if 'encoder.body.' in name}
    official = {f'encoder.{name}': tensor for name, tensor in plain.items()}
    imgs = torch.randn(1, 3, 32, 48)
    for state in (plain, official):
        other = model(**beit)
        load_any(other, state, grid=(4, 6))
        torch.testing.assert_close(other.encoder(imgs), old.encoder(imgs))
    with pytest.raises(UserError, match='lack 1 keys: encoder.body.rel_pos_bias.relative_position_bias_table'):
        load_any(old, state_of(new))  # which of them would all share?


def test_the_grid_option(tmp_path):
    """8 x 18 patches, saved by timm, for 12 x 12: refused, then read as what it is; our file then says its grid."""
    small = {'patch_size': 8, 'embed_dim': 24, 'depth': 1, 'num_heads': 2}
    path, ours, again = tmp_path / 'timm.pth', tmp_path / 'ours.pth', tmp_path / 'again.pth'
    body = timm.create_model('vit_tiny_patch16_224', num_classes=0, img_size=(64, 144), **small)
    torch.save(body.state_dict(), path)
    wide = {'model__encoder__positions': 'learned', 'model__encoder__img_size': '(64,144)'}
    assert '8 x 18' in refuse('import_weights', path, QUICKSTART, '--out', ours, **wide)
    text = run_here('import_weights', path, QUICKSTART, '--out', ours, '--grid', 8, 18, **wide)
    assert 'resized:    0' in text
    held = torch.load(ours, weights_only=True)
    assert held['meta'][GRIDS] == {POSITIONS: [8, 18]}
    square = {'model__encoder__positions': 'learned', 'model__encoder__img_size': 96}
    text = run_here('import_weights', ours, QUICKSTART, '--out', again, **square)
    assert '8 x 18 to 12 x 12' in text
    assert 'not the 100 of' in refuse('import_weights', path, QUICKSTART, '--out', again, '--grid', 10, 10, **square)
    assert torch.equal(held['state_dict'][POSITIONS], body.pos_embed)


def test_absolute_positions_of_a_swin():
    swin = ENCODERS['Swin with absolute positions']
    table = 'encoder.positions.pos_embed'
    old, new = model(swin, img_size=(32, 32)), model(swin, img_size=(32, 64))
    report = load_any(new, state_of(old), grid=(8, 8))
    assert f'{table} (8 x 8 to 8 x 16)' in report.resized
    imgs = torch.randn(1, 3, 32, 64)
    torch.testing.assert_close(new.encoder(imgs), old.encoder(imgs))  # as resizing while it runs
    assert table in {f'encoder.{name}' for name in new.encoder.no_weight_decay()}
    assert new.encoder.layer_depth('positions.pos_embed')[0] == 0
    frozen = model(swin, frozen_stages=0).encoder
    assert not frozen.positions.pos_embed.requires_grad


def test_the_grid_option_where_there_are_no_positions():
    with pytest.raises(UserError, match='--grid 8 18: this encoder stores no positions'):
        load_any(model(ENCODERS['ConvNeXt']), {'stem.0.weight': torch.zeros(1)}, grid=(8, 18))
