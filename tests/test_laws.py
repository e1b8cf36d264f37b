"""The laws that hold for every registered part, on small images that are not square."""

import pytest
import timm
import torch

from mae_toolkit.models import Cells, Decoder, Encoder, Loss, Masking, Target
from mae_toolkit.models.encoders.timm_encoder import TimmEncoder
from mae_toolkit.models.layers.rotary import compute_rotations
from mae_toolkit.models.mask_ops import hide, to_tokens, upsample
from mae_toolkit.registry import MODELS, build, list_names
from parts import (
    DECODERS,
    ENCODERS,
    LOSSES,
    MASKINGS,
    SIZE,
    TARGETS,
    compares,
    covering,
    fits,
    images,
    make_encoder,
    make_model,
)

every_encoder = pytest.mark.parametrize('encoder', ENCODERS)
# The others put a mask token where they see nothing.
sparse_encoder = pytest.mark.parametrize('encoder', [n for n, c in ENCODERS.items() if not c.get('mask_token')])


def a_mask(encoder, batch=2, larger=1):
    """A random mask at the encoder's own unit, or at a multiple of it."""
    return build(Masking, {'type': 'RandomMasking', 'unit': encoder.mask_unit * larger})(images(batch))


@pytest.mark.parametrize(
    ('role', 'configs'),
    [(Encoder, ENCODERS), (Masking, MASKINGS), (Decoder, DECODERS), (Target, TARGETS), (Loss, LOSSES)],
)
def test_every_registered_part_is_under_test(role, configs):
    known = {name for name in list_names(role) if MODELS.get(name).__module__.startswith('mae_toolkit.')}
    assert known == {config['type'] for config in configs.values()}  # projects/ has tests of its own


@every_encoder
def test_1_shapes_are_as_announced(encoder):
    encoder = make_encoder(encoder)
    maps = encoder(images())
    levels = zip(encoder.out_channels, encoder.out_strides, strict=True)
    expected = [(2, channels, SIZE[0] // stride, SIZE[1] // stride) for channels, stride in levels]
    assert [tuple(x.shape) for x in maps] == expected


@pytest.mark.parametrize('larger', [1, 2])
@sparse_encoder
def test_2_zero_where_hidden_and_nowhere_else(encoder, larger):
    encoder = make_encoder(encoder)
    mask = a_mask(encoder, larger=larger)
    for x in encoder(images(), mask):
        hidden = upsample(mask, x.shape[-2:])
        assert torch.equal((x != 0).any(1, keepdim=True), ~hidden)


@sparse_encoder
def test_3_crop_law(encoder):
    """A hidden cell behaves like the outside of the image. Sizes at which Swin shifts alike and pads no window."""
    whole_size, size = (48, 64), (32, 48)
    whole, cropped = make_encoder(encoder, size=whole_size).double(), make_encoder(encoder, size=size).double()
    state = whole.state_dict()
    for name, own in cropped.state_dict().items():
        if state[name].shape != own.shape:
            state[name] = part_of(name, state[name], whole.position_grid, cropped.position_grid)
    cropped.load_state_dict(state)
    rope = getattr(getattr(whole, 'body', None), 'rope', None)
    if rope is not None:
        cropped.body.rope = Corner(compute_rotations(rope, whole.grid), whole.grid)
    mask = torch.ones(2, 1, whole_size[0] // 8, whole_size[1] // 8, dtype=torch.bool)
    mask[:, :, : size[0] // 8, : size[1] // 8] = False
    x = images(size=whole_size).double()
    seen = whole.encode(hide(x, mask), Cells(mask))
    alone = cropped.encode(x[:, :, : size[0], : size[1]])
    for a, b in zip(seen.maps, alone.maps, strict=True):
        torch.testing.assert_close(a[:, :, : b.shape[2], : b.shape[3]], b, rtol=1e-9, atol=1e-9)
    for a, b in zip(seen.prefixes, alone.prefixes, strict=True):
        assert (a is None) == (b is None)
        if a is not None:
            torch.testing.assert_close(a, b, rtol=1e-9, atol=1e-9)


class Corner(torch.nn.Module):
    """The rotations (..., L, 2d) of the top left corner of a map."""

    def __init__(self, rotations, grid):
        super().__init__()
        self.rotations = rotations.unflatten(-2, grid)

    def get_embed(self, shape):
        return self.rotations[..., : shape[0], : shape[1], :].flatten(-3, -2)


def part_of(name, table, grid, small):
    """The part of a table of positions that belongs to the top left corner."""
    if name.endswith('pos_embed'):  # (1, P+L, C)
        prefix = table.shape[1] - grid[0] * grid[1]
        places = table[:, prefix:].unflatten(1, grid)[:, : small[0], : small[1]].flatten(1, 2)
        return torch.cat([table[:, :prefix], places], 1)
    rows, columns = (slice(n - m, n + m - 1) for n, m in zip(grid, small, strict=True))  # the nearest in the middle
    if name.endswith('relative_position_bias_table'):
        inner = table[:-3].unflatten(0, [2 * n - 1 for n in grid])[rows, columns].flatten(0, 1)
        return torch.cat([inner, table[-3:]])
    return table[rows if name.endswith('rows') else columns]


@pytest.mark.parametrize('size', [SIZE, (48, 64)])
@every_encoder
def test_4_nothing_hidden_equals_timm(encoder, size):
    """timm's features of the same weights, at another size than that of the positions, too."""
    name, encoder = encoder, make_encoder(encoder).double()
    x = images(size=size).double()
    maps = encoder(x)
    none_hidden = torch.zeros(2, 1, size[0] // 8, size[1] // 8, dtype=torch.bool)
    for a, b in zip(encoder(x, none_hidden), maps, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-9, atol=1e-9)
    if (
        not isinstance(encoder, TimmEncoder)
        or 'rel_pos' in ENCODERS[name]
        or 'global_blocks' in ENCODERS[name]
        or 'ape' in ENCODERS[name]
        or (size != SIZE and 'beit' in ENCODERS[name].get('arch', ''))
    ):
        return  # timm has no such model
    theirs = timm_maps(name, encoder, x)
    for i, a, b in zip(encoder.out_indices, maps, [None] * (len(maps) - len(theirs)) + theirs, strict=True):
        if i >= 0:
            norm = (
                encoder.out_norms[encoder.out_indices.index(i)]
                if hasattr(encoder, 'out_norms')
                else torch.nn.Identity()
            )
            torch.testing.assert_close(a, norm(b), rtol=1e-9, atol=1e-9)


def timm_maps(name, encoder, x):
    """The levels of timm's own model with the encoder's weights; where positions are for one size, at this size."""
    config = dict(ENCODERS[name])
    norm, ours = (
        config.get('final_norm', config['type'] == 'Swin'),
        ('type', 'positions', 'mask_token', 'out_indices', 'final_norm', 'out_norms'),
    )
    given = {k: v for k, v in config.items() if k not in (*ours, 'arch')}
    if config['type'] in ('ViT', 'Eva'):
        norm = config.get('final_norm', True)
        given |= {} if 'beit' in config.get('arch', '') else {'dynamic_img_size': True}
    elif 'img_size' in given:
        given['img_size'] = x.shape[-2:]
    arch = config.get(
        'arch',
        {'ViT': 'vit_base_patch16_224', 'Hiera': 'hiera_base_224', 'Swin': 'swin_tiny_patch4_window7_224'}.get(
            config['type']
        ),
    )
    model = timm.create_model(arch, num_classes=0, global_pool='', drop_path_rate=0.0, **given).double().train()
    state = {k.removeprefix('body.'): v for k, v in encoder.state_dict().items() if k.startswith('body.')}
    if 'pos_embed' in state and config['type'] == 'Hiera':
        state['pos_embed'] = to_tokens(encoder._positions([n // 4 for n in x.shape[-2:]]))
    report = model.load_state_dict(state, strict=False)
    assert not report.unexpected_keys
    indices = [i for i in encoder.out_indices if i >= 0]
    return list(model.forward_intermediates(x, indices=indices, norm=norm, intermediates_only=True))


@pytest.mark.parametrize(('encoder', 'decoder'), covering(ENCODERS, DECODERS, allowed=fits))
def test_5_every_trainable_parameter_has_a_gradient(encoder, decoder):
    half = {
        'type': 'RandomMasking',
        'ratio': 0.5,
    }  # at more, no window of Swin may see two tokens, and it needs no bias
    model = make_model(encoder, half, decoder)
    sum(model(images(), mode='loss').values()).backward()
    without = [n for n, p in model.named_parameters() if p.requires_grad and (p.grad is None or not p.grad.any())]
    assert not without


@pytest.mark.parametrize('masking', MASKINGS)
@pytest.mark.parametrize('ratio', [0.3, 0.6, 0.75])
def test_6_every_image_hides_the_same_number_and_every_cell_is_hidden_sometimes(masking, ratio):
    masking = build(Masking, MASKINGS[masking] | {'unit': 8, 'ratio': ratio})
    masks = torch.cat([masking(images(8)) for _ in range(40)])
    assert masks.dtype is torch.bool
    assert masks.shape[1:] == (1, 4, 6)
    assert (masks.flatten(1).sum(1) == 24 - int(24 * (1 - ratio))).all()
    assert masks.any(0).all()
    assert (~masks).any(0).all()


@pytest.mark.parametrize(
    ('encoder', 'decoder', 'larger'), covering(ENCODERS, DECODERS, (1, 2), allowed=lambda *parts: fits(*parts[:2]))
)
def test_7_noise_in_hidden_pixels_changes_nothing(encoder, decoder, larger):
    masking = {'type': 'RandomMasking', 'unit': 8 * larger}
    model = make_model(encoder, masking, decoder).eval()  # drawing nothing
    mask = a_mask(model.encoder, larger=larger)
    x = images()
    hidden = upsample(mask, SIZE)
    noisy = torch.where(hidden, torch.full_like(x, torch.nan), x)
    before, _ = model(x, mask=mask, mode='predict')
    after, _ = model(noisy, mask=mask, mode='predict')
    assert torch.equal(before['pixel'], after['pixel'])
    visible = torch.where(hidden, x, x + 1)
    assert not torch.equal(before['pixel'], model(visible, mask=mask, mode='predict')[0]['pixel'])


def all_fit(encoder, decoder, masking, target, loss):
    return fits(encoder, decoder) and compares(target, loss)


@pytest.mark.parametrize(
    ('encoder', 'decoder', 'masking', 'target', 'loss'),
    covering(ENCODERS, DECODERS, MASKINGS, TARGETS, LOSSES, allowed=all_fit),
)
def test_8_a_training_step_of_every_pair(encoder, decoder, masking, target, loss):
    model = make_model(encoder, masking, decoder, target, loss)
    optimizer = torch.optim.SGD(model.parameters(), lr=1e-3)
    mask = model.masking(images())
    losses = []
    for _ in range(3):
        value = model(images(), mask=mask, mode='loss')['loss_pixel']
        optimizer.zero_grad()
        value.backward()
        optimizer.step()
        losses.append(value.item())
    assert losses[2] < losses[0]
