"""What a prediction depends on: against the whole Jacobian, and never on what is hidden."""

import numpy as np
import pytest
import torch
from PIL import Image

from anomaly_sets import make_image, write_autoencoder
from mae_toolkit.apis import explain_dependence, load_reconstructor
from mae_toolkit.errors import UserError
from mae_toolkit.evaluation.explanation.dependence import Dependence, find_mask, hide_cell, measure_dependence
from mae_toolkit.models.mask_ops import upsample
from parts import images, make_model, randomized
from test_export_folder import ENCODERS
from test_load_encoder import write_run


@pytest.fixture(scope='module')
def run(tmp_path_factory):
    return write_autoencoder(tmp_path_factory.mktemp('runs') / 'photos')


def make(encoder, decoder='TransformerDecoder'):
    torch.manual_seed(0)
    model = randomized(make_model(encoder, decoder=decoder)).double().eval()
    imgs = images().double()[:1]
    torch.manual_seed(1)
    mask = model.masking(imgs)
    return model, imgs, mask, tuple(torch.nonzero(mask[0, 0])[1].tolist())


@pytest.mark.slow
@pytest.mark.parametrize(
    ('encoder', 'decoder'),
    [
        ('ViT', 'TransformerDecoder'),
        ('Eva, DINOv3', 'CrossAttentionDecoder'),
        ('Hiera', 'TransformerDecoder'),
        ('Swin', 'TransformerDecoder'),
        ('ConvNeXt V2', 'ConvNeXtDecoder'),
        ('SparseCNN', 'UNetDecoder'),
    ],
)
def test_it_is_the_norm_of_the_jacobian(encoder, decoder):
    """Of a few predicted values with respect to each pixel, and exactly zero where the image is hidden."""
    model, imgs, mask, cell = make(encoder, decoder)
    found = measure_dependence(model, imgs, mask, cell, draws=60)
    name = next(iter(model.objectives))
    h, w = mask.shape[-2:]

    def predict(x):
        prediction = model(x, mask=mask, mode='predict')[0][name]
        step = prediction.shape[-1] // w
        rows, columns = (slice(n * step, (n + 1) * step) for n in cell)
        return prediction[0, :, rows, columns].flatten()

    jacobian = torch.autograd.functional.jacobian(predict, imgs)[:, 0]  # (values, C, H, W)
    unit = imgs.shape[-1] // w
    expected = jacobian.square().sum((0, 1)).reshape(h, unit, w, unit).sum((1, 3)).sqrt().numpy()
    visible = ~mask[0, 0].numpy()
    assert (found.gradient[~visible] == 0).all() and (jacobian * upsample(mask, imgs.shape[-2:])[0]).abs().max() == 0
    large = expected > 0.2 * expected.max()
    np.testing.assert_allclose(found.gradient[large], expected[large], rtol=0.3)
    assert found.gradient[visible].sum() == pytest.approx(expected[visible].sum(), rel=0.15)


def test_what_it_cannot_measure_is_refused():
    model, imgs, mask, cell = make('ViT')
    visible = tuple(torch.nonzero(~mask[0, 0])[0].tolist())
    for wrong in (visible, (99, 0)):
        with pytest.raises(UserError, match='not hidden'):
            measure_dependence(model, imgs, mask, wrong)
    with pytest.raises(UserError, match='draws=0'):
        measure_dependence(model, imgs, mask, cell, draws=0)
    model, imgs, mask, cell = make('ViT with a mask token', 'LinearDecoder')
    with torch.no_grad():
        for block in model.encoder.body.blocks:  # without attention, a hidden cell learns nothing
            block.attn.proj.weight.zero_()
    with pytest.raises(UserError, match='does not depend'):
        measure_dependence(model, imgs, mask, cell)


def test_numbers_of_a_cell():
    hidden = np.array([[True, False, True], [False, False, True]])
    found = Dependence(np.array([[0, 3.0, 0], [0, 1.0, 0]]), hidden, (0, 2), 8)
    assert found.mean_distance() == pytest.approx((0.75 + 0.25 * 2**0.5) * 8)
    assert found.mean_distance(equally=True) == pytest.approx((1 + 2**0.5 + 5**0.5) / 3 * 8)
    assert found.share_of_neighbors() == 1
    assert Dependence(found.gradient.T, hidden.T, (2, 0), 8).share_of_neighbors() == 1
    assert Dependence(np.array([[0, 3.0, 1.0]]), hidden[:1], (0, 0), 8).share_of_neighbors() == 0.75


def test_masks_of_cells():
    mask = torch.rand(1, 1, 4, 6) < 0.5
    hidden = upsample(mask, (32, 48))
    assert torch.equal(find_mask(hidden, 8), mask) and torch.equal(find_mask(hidden[..., :29, :43], 8), mask)
    mask = torch.tensor([[[[False, True, True], [False, False, True]]]])
    assert hide_cell(mask, (0, 1)) is mask
    changed = hide_cell(mask, (0, 0))
    assert changed.tolist() == [[[[True, True, True], [False, False, False]]]] and mask.sum() == changed.sum()


@pytest.mark.slow
def test_a_picture_of_any_size_and_any_cell(run, tmp_path):
    for seed, size in enumerate(((45, 61), (32, 40))):
        Image.fromarray(make_image(seed, size)).save(tmp_path / f'{seed}.png')
    (tmp_path / '9.png').write_bytes(b'broken')
    found = explain_dependence(run, tmp_path, places=[(0, 0), (1, 1), (0.5, 0.5)], ratio=0.6, device='cpu')
    cells = found.numbers['cells']
    assert [one['image'] for one in cells] == ['0.png'] * 3 + ['1.png'] * 3
    for one in cells:
        h, w = len(one['gradient']), len(one['gradient'][0])
        assert one['hidden'] == 0 and (h, w) in ((6, 8), (4, 5))
        assert one['distance'] > 0 and 0 <= one['neighbors'] <= 1 and one['equally'] > 0
    assert [one['cell'] for one in cells] == [[0, 0], [5, 7], [2, 3], [0, 0], [3, 4], [2, 2]]
    assert 'broken' not in str(found.skipped) and [name for name in found.skipped if name.endswith('9.png')]
    again = explain_dependence(load_reconstructor(run, ratio=0.6, device='cpu'), tmp_path / '0.png', places=[(1, 1)])
    assert again.numbers['cells'][0]['gradient'] == cells[1]['gradient']
    other = explain_dependence(run, tmp_path / '0.png', places=[(1, 1)], ratio=0.6, seed=1, device='cpu')
    assert other.numbers['cells'][0]['gradient'] != cells[1]['gradient']


def test_mistakes_are_refused(run, tmp_path):
    image = make_image(0)
    with pytest.raises(UserError, match=r'1\.5'):
        explain_dependence(run, image, places=[(0.5, 1.5)])
    with pytest.raises(UserError, match='ratio=2'):
        explain_dependence(run, image, ratio=2)
    write_run(tmp_path / 'encoder', ENCODERS['ViT'])
    with pytest.raises(UserError, match=r'decoder'):
        explain_dependence(tmp_path / 'encoder', image, device='cpu')
