"""A user's mistake gets one sentence with both numbers and the remedy."""

import pytest
import torch

from mae_toolkit.errors import UserError
from mae_toolkit.models import Encoder, MaskedAutoencoder, Masking, PixelTarget, PredictionHead
from mae_toolkit.registry import build
from parts import ENCODERS, images, make_encoder, make_model


def refused(*words):
    """Expect a UserError that says all of these words, in one sentence."""

    class Refused:
        def __enter__(self):
            return self

        def __exit__(self, kind, error, trace):
            assert kind is not None, 'nothing was refused'
            if issubclass(kind, UserError):
                assert '\n' not in str(error)
                for word in words:
                    assert str(word) in str(error), f'{word!r} is not in: {error}'
                return True
            return False

    return Refused()


def test_image_size_that_the_unit_does_not_divide():
    with refused(30, 48, 'unit of 8', '32 x 48'):
        make_model()(images(size=(30, 48)), mode='loss')


def test_unknown_part_names_the_nearest():
    with refused('RandomMaskin', 'did you mean RandomMasking'):
        build(Masking, {'type': 'RandomMaskin'})


def test_part_of_another_role():
    with refused('ViT', 'no masking'):
        build(Masking, {'type': 'ViT'})


def test_unknown_argument_names_the_nearest():
    with refused('RandomMasking', 'ration', 'did you mean ratio'):
        build(Masking, {'type': 'RandomMasking', 'ration': 0.5})


def test_unknown_argument_of_timm():
    with refused('embed_dims', 'embed_dim'):
        build(Encoder, ENCODERS['ViT'] | {'embed_dims': 3})


def test_part_without_a_type():
    with refused('masking', 'type'):
        build(Masking, {'ratio': 0.5})


@pytest.mark.parametrize('ratio', [0, 1, -0.1, 75])
def test_ratio_out_of_range(ratio):
    with refused(ratio, 'between 0 and 1'):
        build(Masking, {'type': 'RandomMasking', 'ratio': ratio})


def test_ratio_that_leaves_nothing():
    with refused('0.99', 'hides 24 of 24'):
        build(Masking, {'type': 'RandomMasking', 'ratio': 0.99, 'unit': 8})(images())


def test_mask_unit_that_a_stride_does_not_divide():
    with refused('Stride 8', 'encoder level 1', 'mask unit 12'):
        make_model(masking={'type': 'RandomMasking', 'unit': 12})


def test_cells_of_less_than_a_position_of_the_last_map():
    """A mask token can fill them, unless the decoder asks on the last map what is hidden."""

    def model(unit, decoder):
        masking, target = {'type': 'RandomMasking', 'unit': unit}, {'type': 'PixelTarget', 'patch': unit}
        return make_model('Swin with a mask token', masking, decoder, target)

    assert model(4, 'LinearDecoder')(images(), mode='loss')['loss_pixel'].isfinite()
    with refused('36 x 48', 'unit of 8', '32 x 48'):
        model(4, 'LinearDecoder')(images(size=(36, 48)), mode='loss')
    with refused('Stride 4', 'mask unit 2'):
        model(2, 'LinearDecoder')
    with refused('Stride 8', 'encoder level 1', 'mask unit 4'):
        model(4, 'TransformerDecoder')


@pytest.mark.parametrize(
    ('config', 'words'),
    [
        ({'type': 'ConvNeXtDecoder', 'depth': 0}, ('depth=0', '1 or more')),
        ({'type': 'ConvNeXtDecoder', 'kernel_size': 4}, ('kernel_size=4', 'odd')),
        ({'type': 'UNetDecoder', 'norm': 'instance'}, ('instance', 'batch, layer')),
        ({'type': 'UNetDecoder', 'stride': 3}, ('stride 8', '3')),
        ({'type': 'UNetDecoder', 'stride': 0}, ('stride 8', '0')),
        ({'type': 'UNetDecoder', 'stride': 16}, ('stride 8', '16')),
        ({'type': 'UNetDecoder', 'width': 12}, ('width=12', '3 times')),
    ],
)
def test_numbers_that_convolutional_decoders_cannot_have(config, words):
    with refused(*words):
        make_model(decoder=config)


def test_a_level_that_is_finer_than_the_unet():
    with refused('stride=8', 'stride 4', 'out_indices'):
        make_model('ConvNeXt', decoder={'type': 'UNetDecoder', 'stride': 8})


def test_unequal_masks():
    mask = torch.zeros(2, 1, 4, 6, dtype=torch.bool)
    mask[0, 0, 0, :3] = True
    mask[1, 0, 0, :5] = True
    with refused(21, 19, 'image 1'):
        make_model()(images(), mask=mask, mode='loss')


@pytest.mark.parametrize(
    'mask',
    [False, torch.zeros(2, 1, 4, 6), torch.zeros(2, 4, 6, dtype=torch.bool), torch.zeros(2, 1, 6, 4, dtype=torch.bool)],
)
def test_mask_of_another_kind(mask):
    with refused('mask'):
        make_model()(images(), mask=mask, mode='loss')


def test_all_hidden():
    with refused('all 24 cells'):
        make_model()(images(), mask=torch.ones(2, 1, 4, 6, dtype=torch.bool), mode='loss')


def test_architectures_that_are_no_plain_vit():
    with refused('resnet18', 'ResNet', 'VisionTransformer'):
        build(Encoder, {'type': 'ViT', 'arch': 'resnet18'})
    with refused('VisionTransformerDistilled'):
        build(Encoder, {'type': 'ViT', 'arch': 'deit_tiny_distilled_patch16_224'})
    with refused('vit_bas_patch16_224', 'vit_base_patch16_224'):
        build(Encoder, {'type': 'ViT', 'arch': 'vit_bas_patch16_224'})


def test_out_indices_beyond_the_blocks():
    with refused(7, '2 blocks'):
        make_encoder('ViT', out_indices=(0, 7))


@pytest.mark.parametrize(
    ('changes', 'words'),
    [
        ({'num_heads': 5}, ['num_heads=5', 'embed_dim=24', '5 heads do not divide 24']),
        ({'out_indices': ()}, ['out_indices ()', '2 blocks']),
        ({'num_classes': 3}, ['num_classes']),
        ({'patch_drop_rate': 0.1}, ['patch_drop_rate']),
        ({'arch': 'vit_base_r50_s16_224', 'img_size': 224}, ['square patches', 'vit_base_r50_s16_224']),
        ({'arch': None}, ['arch=None', 'a name is needed']),
    ],
)
def test_what_timm_would_refuse_in_its_own_way(changes, words):
    config = ENCODERS['ViT'] if 'arch' not in changes else {'type': 'ViT'}
    with refused(*words):
        build(Encoder, config | changes)


def test_channels_of_encoder_and_data():
    with refused('encoder takes 4 channels', '3 values'):
        make_model(
            encoder=ENCODERS['ViT'] | {'in_chans': 4}, data_preprocessor={'type': 'mae_toolkit.ImagePreprocessor'}
        )


def test_numbers_that_make_no_sense():
    with refused('unit=0'):
        build(Masking, {'type': 'RandomMasking', 'unit': 0})
    with refused('ratio', 'str'):
        build(Masking, {'type': 'RandomMasking', 'ratio': 'abc'})
    with refused('depth=0'):
        make_model(decoder={'type': 'TransformerDecoder', 'embed_dim': 16, 'num_heads': 2, 'depth': 0})


def test_positions_of_another_kind():
    with refused('rotary', 'sincos', 'learned'):
        make_encoder('ViT', positions='rotary')


def test_decoder_heads():
    with refused(3, 16):
        make_model(decoder={'type': 'TransformerDecoder', 'embed_dim': 16, 'num_heads': 3})


def test_strides_that_do_not_meet():
    with refused(12, 8):
        PredictionHead(4, 8, PixelTarget(12))


def test_objective_keys():
    with refused('loss', 'pixel'):
        make_model(objectives={'pixel': {'target': {'type': 'PixelTarget'}, 'loss': []}})
    with refused('at least one loss'):
        make_model(objectives={'pixel': {'target': {'type': 'PixelTarget'}, 'losses': []}})


@pytest.mark.parametrize('weights', [[-1.0], [0.0, 0.0], [float('nan')]])
def test_weights_of_losses(weights):
    losses = [{'type': 'MaskedL2Loss', 'weight': weight} for weight in weights]
    with refused('weight'):
        make_model(objectives={'pixel': {'target': {'type': 'PixelTarget'}, 'losses': losses}})


@pytest.mark.parametrize('predict_ratio', [0, 0.8, -0.1])
def test_a_share_to_predict_that_is_not_hidden(predict_ratio):
    with refused(predict_ratio, 0.75):
        make_model(masking={'type': 'RandomMasking', 'ratio': 0.75, 'predict_ratio': predict_ratio})


@pytest.mark.parametrize(('ratio', 'hidden'), [(0.97, 24), (0.01, 1)])
def test_a_ratio_that_leaves_nothing_on_this_grid(ratio, hidden):
    count = {'count': 'int_hidden'} if ratio < 0.5 else {}
    with refused(ratio, 24, 'hides 0 of' if ratio < 0.5 else f'hides {hidden} of'):
        make_model(masking={'type': 'RandomMasking', 'ratio': ratio, **count})  # 4 x 6 cells


def test_a_schedule_that_hides_less_than_is_predicted():
    masking = build(Masking, {'type': 'RandomMasking', 'unit': 8, 'ratio': 0.75, 'predict_ratio': 0.5})
    masking.ratio = 0.3  # as MaskingScheduleHook does
    with refused('predict_ratio=0.5', 'hidden cells of 24'):
        masking.draw_cells(images())


def test_a_frozen_network_with_an_init_cfg():
    network = ENCODERS['ViT'] | {'init_cfg': {'type': 'Pretrained', 'checkpoint': 'teacher.pth'}}
    with refused('init_cfg', 'checkpoint='):
        make_model(target={'type': 'FeatureTarget', 'network': network})


def test_no_objectives():
    with refused('objective'):
        MaskedAutoencoder(ENCODERS['ViT'], {'type': 'RandomMasking'}, {'type': 'TransformerDecoder'}, {})
