"""What methods are given: levels of an encoder as one map, and errors of a masked autoencoder."""

import pytest
import torch
from torch.nn.functional import avg_pool2d, interpolate, pixel_shuffle

from anomaly_sets import write_encoder
from mae_toolkit.apis.anomaly_branches import load_reader
from mae_toolkit.apis.encoders import load_encoder
from mae_toolkit.errors import UserError
from mae_toolkit.evaluation.anomaly.errors import ErrorReader
from mae_toolkit.evaluation.anomaly.readers import FeatureReader, choose_levels
from mae_toolkit.evaluation.anomaly.tiles import Tiling, merge_tiles
from parts import TARGETS, images, make_encoder, make_model

LEVELS = {'type': 'ConvNeXt', 'arch': 'convnext_tiny', 'depths': (1, 1, 1, 1), 'dims': (6, 10, 12, 14)}


def encoder():
    return make_encoder('ConvNeXt', **LEVELS, out_indices=(0, 1, 2, 3)).eval()


@pytest.mark.parametrize('local', [1, 3])
def test_levels_are_put_behind_each_other_at_the_finest_stride(local):
    network, imgs = encoder(), images(size=(64, 96))
    found = FeatureReader(network, local=local)(imgs)
    with torch.no_grad():
        _, finer, coarser, _ = network(imgs)
    finer, coarser = (avg_pool2d(x, local, 1, local // 2) for x in (finer, coarser))
    coarser = interpolate(coarser, finer.shape[-2:], mode='bilinear', align_corners=False)
    assert found.shape == (2, 22, 8, 12)
    torch.testing.assert_close(found, torch.cat([finer, coarser], 1))


def test_images_of_any_size_keep_positions_in_place():
    network = encoder()
    found = FeatureReader(network, levels=(1, 4))(images(size=(60, 70)))
    with torch.no_grad():
        finest, *_, last = network(images(size=(60, 70)))
    assert found.shape == (2, 20, *finest.shape[-2:])
    scaled = interpolate(last, scale_factor=8, mode='bilinear', align_corners=False)
    torch.testing.assert_close(found[:, 6:], scaled[..., : finest.shape[2], : finest.shape[3]])


def test_levels_are_chosen_and_wrong_ones_refused():
    assert choose_levels((4, 8, 16, 32)) == (2, 3) and choose_levels((14,)) == (1,) and choose_levels((4, 32)) == (2,)
    with pytest.raises(UserError, match='no level 5: the encoder has 4 levels'):
        FeatureReader(encoder(), levels=(5,))
    with pytest.raises(UserError, match='local=2 must be an odd number'):
        FeatureReader(encoder(), local=2)


@pytest.mark.parametrize(('levels', 'built'), [(None, 3), ((1,), 1), ((3, 1), 3), ((4,), 4)])
def test_a_reader_holds_as_much_of_an_encoder_as_it_reads(tmp_path, levels, built):
    source, imgs = write_encoder(tmp_path / 'encoder'), images(size=(64, 96))
    whole, _ = load_encoder(source)
    reader, _ = load_reader(source, levels=levels, local=3)
    assert reader.encoder.out_strides == whole.out_strides[:built] and len(whole.out_strides) == 4
    torch.testing.assert_close(reader(imgs), FeatureReader(whole, levels, local=3)(imgs))
    with pytest.raises(UserError, match='no level 5: the encoder has 4 levels'):
        load_reader(source, levels=(5,))


def test_images_of_a_batch_are_read_as_one_by_one():
    reader, imgs = FeatureReader(make_encoder('SparseCNN').eval(), local=3), images(size=(64, 96))
    imgs, threads = torch.cat([imgs, imgs + 1, imgs - 1])[:5], torch.get_num_threads()
    torch.set_num_threads(2)  # each reads a part
    try:
        found = reader(imgs)
    finally:
        torch.set_num_threads(threads)
    torch.testing.assert_close(found, torch.cat([reader(img[None]) for img in imgs]), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize('ratio', [None, 0.3, 0.5, 0.9])
def test_masks_together_hide_every_cell_about_equally_often(ratio):
    reader = ErrorReader(make_model(), masks=5, repeats=3, ratio=ratio)
    masks = reader.draw_masks(4, 6)
    hidden = masks.flatten(1).sum(1)
    assert masks.shape == (15, 1, 4, 6) and hidden.unique().tolist() == [24 - int(24 * (1 - (ratio or 0.75)))]
    for repeat in masks.view(3, 5, 24):
        counts = repeat.sum(0)
        assert counts.min() >= 1 and counts.max() - counts.min() <= 1
    assert torch.equal(masks, reader.draw_masks(4, 6))
    assert not torch.equal(masks[:5], masks[5:10])
    assert not torch.equal(masks, ErrorReader(make_model(), masks=5, repeats=3, ratio=ratio, seed=1).draw_masks(4, 6))


def test_wrong_masks_are_refused():
    with pytest.raises(UserError, match=r'3 masks that hide 3 of 24 cells each .* at least 8 masks'):
        ErrorReader(make_model(), masks=3, ratio=0.1).draw_masks(4, 6)
    for wrong in ({'masks': 0}, {'repeats': 0}, {'ratio': 1.0}, {'grain': 0}):
        with pytest.raises(UserError, match=f'{next(iter(wrong))}='):
            ErrorReader(make_model(), **wrong)
    with pytest.raises(UserError, match='no loss that compares its target position by position'):
        ErrorReader(make_model(loss='SSIMLoss'))


@pytest.mark.parametrize('target', ['PixelTarget', 'PixelTarget normalized'])
def test_errors_of_pixels_are_averaged_over_the_masks_that_hide_them(target):
    model, imgs = make_model(target=target).eval(), images()
    reader = ErrorReader(model, masks=2, repeats=2, grain=2)
    found = reader(imgs)
    expected, counts = torch.zeros(2, 16, 24), torch.zeros(2, 16, 24)
    for mask in reader.draw_masks(4, 6):
        with torch.no_grad():
            predictions, _ = model(imgs, mask=mask.expand(2, -1, -1, -1), mode='predict')
            wanted = model.objectives['pixel'].target(imgs)
        squares = (pixel_shuffle(predictions['pixel'], 8) - pixel_shuffle(wanted, 8)).square().mean(1, keepdim=True)
        hidden = mask[0].repeat_interleave(4, 0).repeat_interleave(4, 1)  # (16, 24)
        expected += avg_pool2d(squares, 2)[:, 0] * hidden
        counts += hidden
    torch.testing.assert_close(found[:, 0], expected / counts, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize('target', TARGETS)
def test_errors_of_any_target_can_be_read_and_tell_where_an_image_was_changed(target):
    loss = 'MaskedCrossEntropyLoss' if target == 'CodebookTarget' else 'MaskedL2Loss'
    model, imgs = make_model(target=target, loss=loss), images()
    model.train()
    reader = ErrorReader(model)
    found = reader(imgs)
    assert model.training and found.shape[:2] == (2, 1) and found.isfinite().all() and not found.requires_grad
    torch.testing.assert_close(found[:1], reader(imgs[:1]), rtol=1e-4, atol=1e-5)
    imgs[:, :, 8:24, 16:32] += 30 * torch.randn(2, 3, 16, 16, generator=torch.Generator().manual_seed(3))
    changed = reader(imgs)
    assert not torch.equal(changed, found)
    if target.startswith('PixelTarget') and 'normalized' not in target:
        rows, columns = changed.shape[-2:]
        inside = torch.zeros(rows, columns, dtype=torch.bool)
        inside[rows // 4 : 3 * rows // 4, columns // 3 : 2 * columns // 3] = True
        assert changed[:, 0, inside].mean() > 10 * changed[:, 0, ~inside].mean()


def test_tiles_cover_an_image_and_their_maps_make_one():
    tiling = Tiling(32, 0.25)
    places = tiling.place(100, 32)
    assert places == [(0, 0), (22, 0), (45, 0), (68, 0)]
    whole = torch.randn(100, 70)
    places = tiling.place(100, 70)
    parts = torch.stack([whole[top : top + 32, left : left + 32] for top, left in places])
    torch.testing.assert_close(merge_tiles(parts, places, (100, 70)), whole)
    assert Tiling(32, 0.0).place(64, 32) == [(0, 0), (32, 0)] and Tiling(32).place(32, 32) == [(0, 0)]
    with pytest.raises(UserError, match='30 x 40 pixels is smaller than a tile of 32'):
        tiling.place(30, 40)
    with pytest.raises(UserError, match='overlap=1.0'):
        Tiling(32, 1.0)


def test_where_tiles_overlap_the_nearer_center_counts_more():
    merged = merge_tiles(torch.stack([torch.zeros(8, 8), torch.ones(8, 8)]), [(0, 0), (0, 4)], (8, 12))[0]
    assert merged[0] == 0 and merged[-1] == 1 and (merged[4:8].diff() > 0).all()
