"""Every encoder is a backbone of MMDetection: one training step, and a prediction at an odd size."""

import pytest
import torch
from mmengine.config import Config, ConfigDict
from mmengine.registry import DefaultScope
from mmengine.runner import Runner
from mmengine.structures import InstanceData

from mae_toolkit.errors import UserError
from parts import ENCODERS, make_encoder
from warm import run_python

pytest.importorskip('mmdet', reason='MMDetection is not installed: pip install -e .[det]')

from mmdet.registry import MODELS
from mmdet.structures import DetDataSample
from mmdet.structures.mask import BitmapMasks

CLASSES, SIZE, ODD = 3, (32, 48), (45, 70)
DELTAS = {'type': 'DeltaXYWHBBoxCoder', 'target_means': [0.0] * 4, 'target_stds': [0.1, 0.1, 0.2, 0.2]}
ASSIGNER = {'type': 'MaxIoUAssigner', 'pos_iou_thr': 0.5, 'neg_iou_thr': 0.5, 'min_pos_iou': 0.0}
SAMPLER = {'type': 'RandomSampler', 'num': 16, 'pos_fraction': 0.5, 'neg_pos_ub': -1, 'add_gt_as_proposals': False}
NMS = {'type': 'nms', 'iou_threshold': 0.5}
ENTROPY = {'type': 'CrossEntropyLoss'}
TEST_RCNN = {'score_thr': 0.0, 'nms': NMS, 'max_per_img': 5}


def backbone(name, **changes):
    """Two levels of the encoder, by the name with which a config of MMDetection calls it."""
    config = ENCODERS[name] | {'type': f'mae_toolkit.{ENCODERS[name]["type"]}', 'out_indices': (0, 1)}
    return config | ({'mask_token': False} if 'mask_token' in ENCODERS[name] else {}) | changes


def anchors(strides):
    return {'type': 'AnchorGenerator', 'scales': [2], 'ratios': [0.5, 1.0], 'strides': strides}


def detector(kind, name, neck=None, strides=None, **changes):
    """A small detector of a kind over an encoder and a pyramid of three levels."""
    encoder = make_encoder(name, out_indices=(0, 1))
    last = encoder.out_strides[-1]
    neck = neck or {'type': 'FPN', 'in_channels': list(encoder.out_channels), 'out_channels': 8, 'num_outs': 3}
    strides = strides or [encoder.out_strides[0], last, last * 2]
    config = {
        'type': kind,
        'data_preprocessor': {
            'type': 'DetDataPreprocessor',
            'mean': [127.0] * 3,
            'std': [50.0] * 3,
            'pad_mask': kind == 'MaskRCNN',
            'pad_size_divisor': 16,
        },
        'backbone': backbone(name, **changes),
        'neck': neck,
        **(retina(strides) if kind == 'RetinaNet' else rcnn(strides, kind == 'MaskRCNN')),
    }
    with DefaultScope.overwrite_default_scope('mmdet'):
        return MODELS.build(ConfigDict(config))


def retina(strides):
    head = {
        'type': 'RetinaHead',
        'num_classes': CLASSES,
        'in_channels': 8,
        'stacked_convs': 1,
        'feat_channels': 8,
        'anchor_generator': anchors(strides),
        'bbox_coder': DELTAS,
        'loss_cls': {'type': 'FocalLoss', 'use_sigmoid': True},
        'loss_bbox': {'type': 'L1Loss'},
    }
    train = {'assigner': ASSIGNER, 'sampler': {'type': 'PseudoSampler'}, 'allowed_border': -1, 'pos_weight': -1}
    test = {'nms_pre': 100, 'min_bbox_size': 0} | TEST_RCNN
    return {'bbox_head': head, 'train_cfg': train | {'debug': False}, 'test_cfg': test}


def rcnn(strides, masks):
    rpn = {
        'type': 'RPNHead',
        'in_channels': 8,
        'feat_channels': 8,
        'anchor_generator': anchors(strides),
        'bbox_coder': DELTAS,
        'loss_cls': ENTROPY | {'use_sigmoid': True},
        'loss_bbox': {'type': 'L1Loss'},
    }
    heads = {
        'type': 'StandardRoIHead',
        'bbox_roi_extractor': extractor(3, strides),
        'bbox_head': {
            'type': 'Shared2FCBBoxHead',
            'in_channels': 8,
            'fc_out_channels': 8,
            'roi_feat_size': 3,
            'num_classes': CLASSES,
            'bbox_coder': DELTAS,
            'loss_cls': ENTROPY,
            'loss_bbox': {'type': 'L1Loss'},
        },
    }
    if masks:
        sizes = {'num_convs': 1, 'in_channels': 8, 'conv_out_channels': 8, 'roi_feat_size': 4, 'num_classes': CLASSES}
        heads['mask_roi_extractor'] = extractor(4, strides)
        heads['mask_head'] = {'type': 'FCNMaskHead', **sizes, 'loss_mask': ENTROPY | {'use_mask': True}}
    proposals = {'nms_pre': 50, 'max_per_img': 20, 'nms': NMS, 'min_bbox_size': 0}
    fixed = {'assigner': ASSIGNER, 'sampler': SAMPLER, 'pos_weight': -1, 'debug': False}
    return {
        'rpn_head': rpn,
        'roi_head': heads,
        'train_cfg': {
            'rpn': fixed | {'allowed_border': -1},
            'rpn_proposal': proposals,
            'rcnn': fixed | {'sampler': SAMPLER | {'add_gt_as_proposals': True}, 'mask_size': 8},
        },
        'test_cfg': {'rpn': proposals, 'rcnn': TEST_RCNN | {'mask_thr_binary': 0.5}},
    }


def extractor(size, strides):
    layer = {'type': 'RoIAlign', 'output_size': size, 'sampling_ratio': 0}
    return {
        'type': 'SingleRoIExtractor',
        'roi_layer': layer,
        'out_channels': 8,
        'featmap_strides': strides,
        'finest_scale': 8,
    }


def batch(size):
    """Two images, one with two objects and one with none."""
    generator = torch.Generator().manual_seed(0)
    samples = []
    for boxes in ([[2.0, 3, 20, 25], [15, 8, 40, 30]], []):
        masks = torch.zeros(len(boxes), *size, dtype=torch.uint8)
        for mask, (x1, y1, x2, y2) in zip(masks, boxes, strict=True):
            mask[int(y1) : int(y2), int(x1) : int(x2)] = 1
        found = InstanceData(
            bboxes=torch.tensor(boxes).reshape(-1, 4),
            labels=torch.arange(len(boxes)) + 1,
            masks=BitmapMasks(masks.numpy(), *size),
        )
        meta = {'img_shape': size, 'ori_shape': size, 'scale_factor': (1.0, 1.0), 'batch_input_shape': size}
        samples.append(DetDataSample(gt_instances=found, metainfo=meta))
    imgs = [torch.randint(256, (3, *size), generator=generator, dtype=torch.uint8) for _ in range(2)]
    return {'inputs': imgs, 'data_samples': samples}


def trains_and_predicts(model, masks=False):
    model.train()
    losses = model(**model.data_preprocessor(batch(SIZE), training=True), mode='loss')
    sum(sum(loss) if isinstance(loss, list) else loss for loss in losses.values()).backward()
    assert losses and not [n for n, p in model.backbone.named_parameters() if p.requires_grad and p.grad is None]
    with torch.no_grad():
        found = model.eval()(**model.data_preprocessor(batch(ODD)), mode='predict')
    for sample in found:
        instances = sample.pred_instances
        assert 0 < len(instances) <= 5 and instances.bboxes.isfinite().all()
        if masks:
            assert instances.masks.shape == (len(instances), *ODD)


@pytest.mark.parametrize('kind', ['FasterRCNN', 'MaskRCNN', 'RetinaNet'])
@pytest.mark.parametrize('name', ENCODERS)
def test_an_encoder_trains_as_a_backbone_and_predicts(name, kind):
    trains_and_predicts(detector(kind, name), masks=kind == 'MaskRCNN')


def test_a_plain_transformer_with_windows_has_the_simple_pyramid():
    name = 'ViT, windows and relative positions'
    neck = {'type': 'mae_toolkit.SimplePyramid', 'in_channels': 24, 'out_channels': 8, 'scales': (2, 1, 0.5)}
    model = detector('MaskRCNN', name, neck, strides=[4, 8, 16], out_indices=(1,), img_size=(64, 64))
    trains_and_predicts(model, masks=True)


def checkpoint_of(encoder, path):
    """What pretraining saves, with a decoder."""
    state = {f'encoder.{name}': value for name, value in encoder.state_dict().items()}
    torch.save({'state_dict': state | {'decoder.mask_token': torch.zeros(8)}}, path)
    return {'type': 'Pretrained', 'checkpoint': str(path), 'prefix': 'encoder'}


def test_a_detector_loads_a_training_checkpoint_and_keeps_it(tmp_path):
    """``init_weights`` of the detector draws its heads anew and no weight of the backbone."""
    encoder = make_encoder('ConvNeXt', out_indices=(1,))
    model = detector('MaskRCNN', 'ConvNeXt', init_cfg=checkpoint_of(encoder, tmp_path / 'iter_1.pth'), out_norms=True)
    head = model.rpn_head.rpn_conv.weight.clone()
    model.init_weights()
    model.init_weights()
    loaded = model.backbone.state_dict()
    assert all(torch.equal(value, loaded[name]) for name, value in encoder.state_dict().items())
    assert not torch.equal(model.rpn_head.rpn_conv.weight, head)
    drawn = detector('MaskRCNN', 'ConvNeXt')
    before = {name: value.clone() for name, value in drawn.backbone.state_dict().items()}
    drawn.init_weights()
    assert all(torch.equal(value, before[name]) for name, value in drawn.backbone.state_dict().items())


def test_a_checkpoint_of_another_architecture_is_refused(tmp_path):
    other = make_encoder('ConvNeXt V2', out_indices=(1,))
    model = detector('MaskRCNN', 'ConvNeXt', init_cfg=checkpoint_of(other, tmp_path / 'iter_1.pth'))
    with pytest.raises(UserError, match='seems to hold a ConvNeXt V2 of 3 blocks.*the model has a ConvNeXt of 3'):
        model.init_weights()


def test_frozen_stages_and_norms_stay_frozen_in_a_detector():
    model = detector('FasterRCNN', 'SparseCNN', frozen_stages=1, norm_eval=True)
    before = {name: value.clone() for name, value in model.backbone.state_dict().items()}
    trains_and_predicts(model)
    model.train()
    frozen = [p for p in model.backbone.parameters() if not p.requires_grad]
    assert frozen and all(p.grad is None for p in frozen)
    for module in model.backbone.modules():
        assert not (isinstance(module, torch.nn.BatchNorm2d) and module.training)
    after = model.backbone.state_dict()
    assert all(torch.equal(before[name], after[name]) for name in before if 'running' in name)


def test_mmengines_runner_trains_a_detector_from_a_checkpoint(tmp_path):
    """MMDetection's scope, its registry and MMEngine's own runner, with the raw checkpoint in the config."""
    encoder = make_encoder('ViT', out_indices=(0, 1))
    pretrained = checkpoint_of(encoder, tmp_path / 'iter_1.pth')
    model = detector('RetinaNet', 'ViT', init_cfg=pretrained)

    class Images(torch.utils.data.Dataset):
        def __len__(self):
            return 4

        def __getitem__(self, index):
            both = batch(SIZE)
            return {'inputs': both['inputs'][0], 'data_samples': both['data_samples'][0]}

    runner = Runner(
        model,
        str(tmp_path / 'run'),
        train_dataloader={
            'dataset': Images(),
            'batch_size': 2,
            'sampler': {'type': 'DefaultSampler', 'shuffle': False},
            'collate_fn': {'type': 'pseudo_collate'},
        },
        train_cfg={'by_epoch': True, 'max_epochs': 1},
        optim_wrapper={'optimizer': {'type': 'SGD', 'lr': 0.0}},
        default_scope='mmdet',
        experiment_name='test_mmengines_runner',
        cfg=Config(),
    )
    runner.train()
    loaded = model.backbone.state_dict()
    assert runner.iter == 2
    assert all(torch.equal(value, loaded[name]) for name, value in encoder.state_dict().items())


@pytest.mark.process
def test_the_scope_leads_to_the_encoders_without_custom_imports():
    """In a process that has imported no part of the toolkit."""
    code = """
import mae_toolkit, sys
from mmdet.registry import MODELS
assert 'mae_toolkit.models' not in sys.modules
backbone = MODELS.build({'type': 'mae_toolkit.SparseCNN', 'arch': 'resnet18', 'out_indices': (1,)})
assert type(backbone) is sys.modules['mae_toolkit'].models.SparseCNN
"""
    done = run_python('-c', code)
    assert done.returncode == 0, done.stderr
