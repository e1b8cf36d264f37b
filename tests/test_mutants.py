"""Encoders that are broken on purpose: each must be caught by the law that it breaks."""

import pytest
import torch

import test_laws as laws
from mae_toolkit.models import cells
from mae_toolkit.models.cells import pack, unpack
from mae_toolkit.models.encoders import convnext, plain_transformer, sparse_cnn, swin, timm_encoder
from mae_toolkit.models.layers import attention, depthwise, rotary, sparse_graph, vit_blocks, windows


def caught(law, *arguments):
    with pytest.raises(AssertionError):
        law(*arguments)


def test_hidden_neighbors_that_are_not_zero(monkeypatch):
    for module in (timm_encoder, depthwise):
        monkeypatch.setattr(module, 'unpack', lambda x, packing: unpack(x, packing, 0.1) if packing else x)
    caught(laws.test_3_crop_law, 'ConvNeXt V2')
    caught(laws.test_2_zero_where_hidden_and_nowhere_else, 'ConvNeXt V2', 1)


def test_grn_that_sums_over_hidden_cells(monkeypatch):
    """With a bias before it, which makes zeros non-zero."""

    def block(self, block, shortcut, packing):
        x = block.conv_dw(unpack(shortcut, packing)).permute(0, 2, 3, 1)
        x = pack(block.mlp(block.norm(x)).permute(0, 3, 1, 2), packing)
        return x + shortcut

    monkeypatch.setattr(convnext.ConvNeXt, '_block', block)
    caught(laws.test_3_crop_law, 'ConvNeXt V2')


def test_norms_that_see_hidden_cells(monkeypatch):
    """A plain batch norm: the graph runs on whole maps with zeros."""
    run = torch.fx.GraphModule.__call__

    def on_whole_maps(self, x, packing):
        return [pack(y, packing) for y in run(self, unpack(x, packing), None)]

    monkeypatch.setattr(sparse_cnn.SparseCNN, '_run', lambda self, x, p: on_whole_maps(self.body, x, p))
    caught(laws.test_3_crop_law, 'SparseCNN')
    caught(laws.test_3_crop_law, 'SparseCNN with squeeze-and-excitation')


def test_a_maximum_over_zeros_where_it_is_hidden(monkeypatch):
    monkeypatch.setattr(sparse_graph, 'unpack', lambda x, packing, fill=0.0: unpack(x, packing, fill + 7))
    caught(laws.test_3_crop_law, 'SparseCNN')


@pytest.mark.parametrize('encoder', ['Swin', 'Swin V2'])
def test_attention_to_slots_that_hold_no_token(monkeypatch, encoder):
    """With one padded size for all windows, so that there are such slots."""
    monkeypatch.setattr(windows, 'choose_padded_sizes', lambda counts: [int(counts.max())])
    laws.test_3_crop_law(encoder)
    attend = attention.attend

    def to_all_slots(attn, qkv, bias, pairs=None, allowed=None):
        return attend(attn, qkv, bias, pairs, allowed if pairs is None else None)

    monkeypatch.setattr(attention, 'attend', to_all_slots)
    caught(laws.test_3_crop_law, encoder)


@pytest.mark.parametrize('encoder', ['Swin', 'Swin V2'])
def test_windows_that_are_not_shifted(monkeypatch, encoder):
    plan = swin.plan_windows
    monkeypatch.setattr(
        swin, 'plan_windows', lambda packing, size, window, _, device: plan(packing, size, window, (0, 0), device)
    )
    caught(laws.test_4_nothing_hidden_equals_timm, encoder, laws.SIZE)


def test_hidden_units_that_are_attended_to(monkeypatch):
    monkeypatch.setattr(cells.Packing, 'refine', lambda self, grid: None)
    caught(laws.test_3_crop_law, 'Hiera')
    caught(laws.test_2_zero_where_hidden_and_nowhere_else, 'Hiera', 1)


@pytest.mark.parametrize(
    ('module', 'encoder'),
    [
        (plain_transformer, 'ViT'),
        (rotary, 'Eva, DINOv3'),
        (rotary, 'Eva, EVA-02, levels'),
        (rotary, 'Eva, rotations learned for each block'),
        (rotary, 'Eva, windows'),
    ],
)
def test_positions_of_the_visible_tokens_by_their_order(monkeypatch, module, encoder):
    take = module.look_up_positions

    def in_order(table, ids):
        return take(table, ids if ids is None else torch.arange(ids.shape[1]).expand_as(ids))

    monkeypatch.setattr(module, 'look_up_positions', in_order)
    caught(laws.test_3_crop_law, encoder)


def test_rotated_prefix_tokens(monkeypatch):
    """The rotation of the first place, for class and register tokens."""

    def run(self, block, x):
        first = self.rotations[:, :, :1].expand(-1, -1, x.shape[1] - self.rotations.shape[2], -1)
        monkeypatch.setattr(block.attn, 'num_prefix_tokens', 0)
        return block(x, rope=torch.cat([first, self.rotations], 2))

    monkeypatch.setattr(rotary.RotaryAttention, 'run', run)
    caught(laws.test_4_nothing_hidden_equals_timm, 'Eva, DINOv3', laws.SIZE)


def test_rotations_of_another_block(monkeypatch):
    plan = vit_blocks.plan_rotary_attention
    monkeypatch.setattr(
        'mae_toolkit.models.encoders.eva.plan_rotary_attention', lambda *inputs: [plan(*inputs)[0]] * len(inputs[-1])
    )
    caught(laws.test_4_nothing_hidden_equals_timm, 'Eva, rotations learned for each block', laws.SIZE)


def test_rotary_attention_to_slots_that_hold_no_token(monkeypatch):
    """With one padded size for all windows, so that there are such slots."""
    monkeypatch.setattr(windows, 'choose_padded_sizes', lambda counts: [int(counts.max())])
    laws.test_3_crop_law('Eva, windows')
    attend = rotary.RotaryWindowAttention._rotate_over_visible

    def to_all_slots(self, attn, x, plan):
        groups = tuple(g._replace(padding=torch.zeros_like(g.padding)) for g in plan.groups)
        return attend(self, attn, x, plan._replace(groups=groups))

    monkeypatch.setattr(rotary.RotaryWindowAttention, '_rotate_over_visible', to_all_slots)
    caught(laws.test_3_crop_law, 'Eva, windows')


def test_hidden_pixels_under_a_mask_token(monkeypatch):
    """A mask that leaks: the token is added to what is embedded there, and takes no one's place."""
    where = torch.where
    monkeypatch.setattr(plain_transformer, 'torch', _Torch(where=lambda mask, token, x: where(mask, token + x, x)))
    monkeypatch.setattr('mae_toolkit.models.encoders.encoder.hide', lambda imgs, mask: imgs)
    encoder = 'Eva with a mask token, Perception Encoder'
    caught(laws.test_7_noise_in_hidden_pixels_changes_nothing, encoder, 'LinearDecoder', 1)


class _Torch:
    """torch with one function exchanged."""

    def __init__(self, **exchanged):
        self.__dict__.update(exchanged)

    def __getattr__(self, name):
        return getattr(torch, name)
