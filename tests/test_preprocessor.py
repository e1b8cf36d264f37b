"""Normalization on the device, in the units of the files."""

import pytest
import torch

from mae_toolkit.errors import UserError
from mae_toolkit.models.preprocessor import ImagePreprocessor


@pytest.mark.parametrize('dtype, top', [(torch.uint8, 255), (torch.uint16, 65535), (torch.float32, 1.0)])
def test_normalizes_in_the_units_of_the_files(dtype, top):
    raw = (torch.rand(2, 3, 4, 5) * top).to(dtype)
    mean, std = torch.tensor([0.2, 0.5, 0.6]) * top, torch.tensor([0.1, 0.2, 0.3]) * top
    preprocessor = ImagePreprocessor(mean.tolist(), std.tolist())
    imgs = preprocessor({'imgs': raw})['imgs']
    assert imgs.dtype == torch.float32
    for c in range(3):
        torch.testing.assert_close(imgs[:, c], (raw[:, c].float() - mean[c]) / std[c])
    torch.testing.assert_close(preprocessor.denormalize(imgs), raw.float(), rtol=1e-5, atol=1e-6 * top)
    torch.testing.assert_close(preprocessor({'imgs': raw}, training=True)['imgs'], imgs)


def test_given_masks_are_passed_on_and_names_are_not():
    data = {'imgs': torch.zeros(1, 3, 4, 4, dtype=torch.uint8), 'names': ['a'], 'broken': []}
    preprocessor = ImagePreprocessor()
    assert set(preprocessor(data)) == {'imgs'}
    mask = torch.ones(1, 1, 2, 2, dtype=torch.bool)
    out = preprocessor({**data, 'mask': mask, 'predict': ~mask})
    assert out['mask'].dtype == torch.bool and out['mask'].all() and not out['predict'].any()
    assert set(data) == {'imgs', 'names', 'broken'} and data['imgs'].dtype == torch.uint8  # left as it was


def test_checkpoints_hold_nothing_of_it():
    assert not ImagePreprocessor([1.0], [2.0]).state_dict()


def test_channels_that_do_not_fit():
    with pytest.raises(UserError, match='5 channels.* 3 values'):
        ImagePreprocessor()({'imgs': torch.zeros(1, 5, 4, 4)})


@pytest.mark.parametrize('mean, std', [([1.0, 2.0], [1.0]), ([1.0], [0.0]), ([1.0], [-1.0])])
def test_refusals(mean, std):
    with pytest.raises(UserError, match=f'{len(mean)} means and {len(std)} deviations'):
        ImagePreprocessor(mean, std)
