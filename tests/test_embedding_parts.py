"""Batches that are encoded in parts, by threads, give what they give whole."""

from concurrent.futures import ThreadPoolExecutor

import pytest
import torch

from mae_toolkit.evaluation.embeddings import parts
from mae_toolkit.evaluation.embeddings.parts import encode_in_parts, join_features
from mae_toolkit.models.encoders import Encoder
from mae_toolkit.registry import build
from parts import ENCODERS, images, randomized


def count(features):
    return len(features.maps[0])


@pytest.fixture
def two_threads():
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    yield
    torch.set_num_threads(before)


@pytest.mark.parametrize('name', ['ViT learned positions, registers, levels', 'ConvNeXt V2', 'Hiera', 'Swin V2'])
def test_parts_are_the_whole(name, two_threads, monkeypatch):
    encoder = randomized(build(Encoder, dict(ENCODERS[name]))).eval()
    imgs = images(batch=7, size=ENCODERS[name].get('img_size', (64, 96)), channels=encoder.in_chans)
    with torch.no_grad():
        expected = encoder.encode(imgs)
    monkeypatch.setattr(parts, 'AT_ONCE', 2 * imgs[0, 0].numel())
    assert encode_in_parts(encoder, imgs, count) == [2, 2, 2, 1]
    found = join_features(encode_in_parts(encoder, imgs, lambda features: features))
    for one, other in zip((*found.maps, *found.prefixes), (*expected.maps, *expected.prefixes), strict=True):
        assert (one is None) == (other is None)
        if one is not None:
            torch.testing.assert_close(one, other, rtol=1e-5, atol=1e-5)
            assert not one.requires_grad
    assert torch.get_num_threads() == 2 and not encoder.training


def test_modes_threads_and_errors_come_back(two_threads):
    encoder = build(Encoder, dict(ENCODERS['ConvNeXt V2'])).train()
    threads = []

    def fail(features):
        threads.append(torch.get_num_threads())
        raise ValueError('in a thread')

    with pytest.raises(ValueError, match='in a thread'):
        encode_in_parts(encoder, images(batch=4), fail)
    assert set(threads) == {1} and encoder.training and torch.get_num_threads() == 2
    with ThreadPoolExecutor(1) as pool:  # a new thread begins with the number of the process
        assert pool.submit(torch.get_num_threads).result() == 2


def test_images_that_depend_on_each_other_are_one_part(two_threads):
    config = {**ENCODERS['ConvNeXt V2'], 'grn_over_batch': True}
    assert encode_in_parts(build(Encoder, config), images(batch=4), count) == [4]
    encoder = build(Encoder, dict(ENCODERS['ConvNeXt V2']))
    assert encode_in_parts(encoder, images(batch=4), count) == [2, 2]
    with torch.autocast('cpu'):  # holds for one thread alone
        assert encode_in_parts(encoder, images(batch=4), count) == [4]
