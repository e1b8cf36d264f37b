"""HOG: the official numbers of MaskFeat, scikit-image's, and images of any size."""

import pytest
import torch
from skimage.feature import hog
from torch.nn.functional import pixel_shuffle

from mae_toolkit.checkpoints.load import load_any
from mae_toolkit.errors import UserError
from mae_toolkit.models import MaskedAutoencoder, Target
from mae_toolkit.models.targets import HOGTarget, hog_target
from mae_toolkit.registry import build
from parity import Fixture, maskfeat_input
from parts import images

VIT = {'type': 'ViT', 'depth': 2, 'num_heads': 3, 'embed_dim': 24, 'mlp_ratio': 64 / 24, 'img_size': 224}
VIT |= {'norm_eps': 1e-6, 'positions': 'learned', 'mask_token': True}
SKIMAGE = {'gradient': 'central', 'gaussian_window': None, 'start': 'horizontal', 'eps': 1e-5}


def close(ours, theirs, tolerance=1e-5):
    torch.testing.assert_close(ours, theirs, rtol=0, atol=tolerance)


def photographs(data):
    """Three photographs (3, 3, 224, 224) of whole numbers from 0 to 255."""
    return Fixture(data, 'maskfeat_hog')['image_uint8'].float()


def skimage_cells(image, nbins=9, cell=8, **options):
    """scikit-image's histograms (nbins, h, w) of (H, W) or (H, W, C); in float32 it misses 45 degrees."""
    cells = hog(image.double().numpy(), nbins, (cell, cell), (1, 1), 'L2', feature_vector=False, **options)
    return torch.from_numpy(cells[:, :, 0, 0]).permute(2, 0, 1).float()


def test_the_official_target_of_maskfeat(data):
    fixture = Fixture(data, 'maskfeat_hog')
    target = HOGTarget(patch=16)
    assert (target.channels, target.stride, target.kind) == (108, 16, 'vectors')
    close(target(photographs(data)), fixture['hog'].mT.unflatten(2, (14, 14)))
    assert not target.state_dict()  # its weights are no part of a checkpoint


def test_the_official_loss_of_maskfeat(data):
    """Of the whole model with the official weights: normalized photographs, a linear decoder, the hidden patches."""
    fixture = Fixture(data, 'maskfeat_vit')
    imgs, state = maskfeat_input(fixture), fixture.state_dict
    close(HOGTarget(patch=16)(imgs), fixture['target'].mT.unflatten(2, (14, 14)))
    objective = {'target': {'type': 'HOGTarget'}, 'losses': [{'type': 'MaskedL2Loss'}]}
    model = MaskedAutoencoder(VIT, {'type': 'RandomMasking'}, {'type': 'LinearDecoder'}, {'hog': objective})
    load_any(torch.nn.ModuleDict({'encoder': model.encoder}), state)
    head = model.objectives['hog'].head.proj
    head.load_state_dict({'weight': state['neck.fc.weight'][..., None, None], 'bias': state['neck.fc.bias']})
    loss = model(imgs, mask=fixture.mask, mode='loss')['loss_hog']
    torch.testing.assert_close(loss, fixture['loss'].view(()), rtol=1e-5, atol=0)
    loss.backward()
    expected = fixture['grad.neck.fc.bias']
    torch.testing.assert_close(head.bias.grad, expected, rtol=1e-3, atol=1e-5)


@pytest.mark.parametrize(('nbins', 'cell', 'size'), [(9, 8, (224, 224)), (8, 8, (64, 96)), (12, 5, (40, 220))])
def test_one_channel_as_scikit_image(data, nbins, cell, size):
    image = photographs(data)[1, 2, : size[0], : size[1]]
    ours = HOGTarget(patch=cell, in_chans=1, nbins=nbins, cell=cell, **SKIMAGE)(image[None, None])
    close(ours[0], skimage_cells(image, nbins, cell))


def test_each_channel_as_scikit_image(data):
    imgs = photographs(data)[:, :, :64]
    ours = pixel_shuffle(HOGTarget(patch=16, **SKIMAGE)(imgs), 2)  # (B, 3*9, H/8, W/8)
    for image, cells in zip(imgs, ours, strict=True):
        close(cells, torch.cat([skimage_cells(channel) for channel in image]))


def test_the_strongest_channel_as_scikit_image(data):
    imgs = photographs(data)
    target = HOGTarget(patch=16, color='strongest', **SKIMAGE)
    assert target.channels == 9 * 4
    for image, cells in zip(imgs, pixel_shuffle(target(imgs), 2), strict=True):
        close(cells, skimage_cells(image.permute(1, 2, 0), channel_axis=-1))


def test_diagonals_fall_on_the_edges_of_eight_bins():
    """An edge belongs to the bin that starts there, in either direction of the gradient."""
    rows, columns = torch.meshgrid(torch.arange(24.0), torch.arange(24.0), indexing='ij')
    for start, expected in (('vertical', [2, 6, 0, 4]), ('horizontal', [2, 6, 4, 0])):
        target = HOGTarget(patch=8, in_chans=1, nbins=8, gaussian_window=None, start=start)
        for ramp, first in zip((rows + columns, rows - columns, rows, columns), expected, strict=True):
            for image in (ramp, -ramp):
                histogram = target(image[None, None])[0, :, 1, 1]
                close(histogram, torch.eye(8)[first])


@pytest.mark.parametrize(('size', 'patch', 'cell'), [((32, 48), 16, 8), ((40, 16), 8, 4), ((96, 448), 32, 8)])
def test_any_size_and_patch_in_the_order_of_pixel_unshuffle(size, patch, cell):
    """Each cell knows its own pixels and their neighbors: the same as in the picture alone with a margin."""
    imgs = images(size=size, channels=2)
    target = HOGTarget(patch=patch, in_chans=2, cell=cell, gaussian_window=None)
    out = target(imgs)
    assert out.shape == (2, target.channels, size[0] // patch, size[1] // patch)
    row, column = size[0] // cell - 2, size[1] // cell - 2
    alone = imgs[:, :, (row - 1) * cell : (row + 2) * cell, (column - 1) * cell : (column + 2) * cell]
    alone = HOGTarget(patch=cell, in_chans=2, cell=cell, gaussian_window=None)(alone)[:, :, 1, 1]
    close(pixel_shuffle(out, patch // cell)[:, :, row, column], alone, 1e-6)


def test_a_shift_by_a_cell_shifts_the_target(data):
    imgs = photographs(data)[:, :, 32:96]
    even, weighted = HOGTarget(patch=8, gaussian_window=None), HOGTarget(patch=16)
    for target, pixels in ((even, 8), (weighted, 16)):
        whole, shifted = target(imgs), target(imgs[:, :, pixels:, pixels:])
        close(shifted[:, :, 1:, 1:], whole[:, :, 2:, 2:], 1e-6)
        assert not torch.allclose(shifted[:, :, 1:, 1:], whole[:, :, 1:-1, 1:-1], atol=0.1)


def test_normalization_of_the_images_changes_nothing(data):
    imgs = photographs(data)
    mean, std = (torch.tensor(x).view(3, 1, 1) for x in ((123.675, 116.28, 103.53), (58.395, 57.12, 57.375)))
    close(HOGTarget(patch=16)((imgs - mean) / std), HOGTarget(patch=16)(imgs), 1e-4)
    close(HOGTarget(patch=16)(1e-6 * imgs), HOGTarget(patch=16)(imgs), 1e-4)


def test_what_is_flat_has_no_direction():
    target = HOGTarget(patch=16)
    assert not target(torch.full((1, 3, 32, 48), 0.3)).any()


def test_batches_in_parts_are_as_the_images_alone(monkeypatch):
    imgs, target = images(5), HOGTarget(patch=8, cell=4)
    whole = target(imgs)
    assert torch.equal(whole, torch.cat([target(image[None]) for image in imgs]))
    for count in (1, 2, 5):
        monkeypatch.setitem(hog_target.CHUNK, 'cpu', count * imgs[0].numel() + 1)
        assert torch.equal(target(imgs), whole)


def test_in_at_least_float32_and_without_gradient(data):
    target, imgs = HOGTarget(patch=16), photographs(data)[:1]
    with torch.autocast('cpu', torch.bfloat16):
        assert torch.equal(target(imgs), target(imgs.clone()))
        out = target(imgs)
    assert out.dtype is torch.float32 and torch.equal(out, target(imgs))
    assert torch.equal(target(imgs.half()), out) and torch.equal(target(imgs.byte()), out)
    assert target(imgs.double()).dtype is torch.float64
    close(target(imgs.double()).float(), out, 1e-6)
    assert not target(imgs.requires_grad_()).requires_grad


@pytest.mark.parametrize(
    ('options', 'words'),
    [
        ({'cell': 6}, 'cell=6 pixels do not divide its stride of 16'),
        ({'stride': 4}, 'cell=8 pixels do not divide its stride of 4'),
        ({'gradient': 'prewitt'}, "gradient='prewitt' must be one of sobel, central"),
        ({'color': 'gray'}, "color='gray' must be one of each, strongest"),
        ({'start': 'up'}, "start='up' must be one of vertical, horizontal"),
        ({'nbins': 0}, 'nbins=0'),
        ({'gaussian_window': 1}, 'gaussian_window=1'),
    ],
)
def test_refusals(options, words):
    with pytest.raises(UserError, match=words):
        build(Target, {'type': 'HOGTarget', 'patch': 16, **options})


def test_images_that_the_stride_does_not_divide():
    with pytest.raises(UserError, match='24 x 48 pixels is not divisible by the unit of 16'):
        HOGTarget(patch=16)(images(size=(24, 48)))
