"""The classifier: poolings, norms, losses, what probing leaves alone, and what it refuses."""

import random

import numpy as np
import pytest
import timm
import torch
from mmengine.evaluator import Evaluator
from torch import nn

from mae_toolkit.errors import UserError
from mae_toolkit.evaluation import Accuracy
from mae_toolkit.models import ClassificationPreprocessor, Classifier
from parts import ENCODERS, VIT, images, randomized

K = 5
PREPROCESSOR = {'type': 'ClassificationPreprocessor'}


def classifier(encoder='ViT', **kwargs):
    cfg = ENCODERS[encoder] if isinstance(encoder, str) else encoder
    return randomized(Classifier(dict(cfg), K, **kwargs)).train()


@pytest.mark.parametrize('name', ENCODERS)
def test_every_encoder_classifies_and_every_parameter_has_a_gradient(name):
    model = classifier(name, head_norm=True)
    assert model(images(), mode='predict').shape == (2, K)
    torch.testing.assert_close(model.eval()(images(), mode='predict').sum(1), torch.ones(2))
    model.train()(images(), torch.tensor([0, 4]), mode='loss')['loss_class'].backward()
    unused = ('encoder.mask_token', 'encoder.out_norms.')  # nothing is hidden; only the last level is pooled
    lacking = [n for n, p in model.named_parameters() if p.requires_grad and p.grad is None]
    assert not [n for n in lacking if not n.startswith(unused)]


def test_poolings():
    model = classifier(pooling='mean')
    features = model.encoder.eval().encode(images())
    linear = model.head.linear
    expected = {'mean': features.maps[-1].mean((2, 3)), 'class': features.prefixes[-1][:, 0]}
    expected['max'] = features.maps[-1].flatten(2).max(2).values
    for pooling, pooled in expected.items():
        torch.testing.assert_close(classifier(pooling=pooling).eval()(images()), linear(pooled), msg=pooling)


@pytest.mark.parametrize(
    ('arch', 'encoder', 'kwargs'),
    [
        ('vit_tiny_patch16_224', {'type': 'ViT', **VIT, 'positions': 'learned', 'final_norm': False}, {'mean': True}),
        ('convnextv2_atto', {'type': 'ConvNeXt', 'arch': 'convnextv2_atto'}, {}),
        ('hiera_tiny_224', {'type': 'Hiera', 'arch': 'hiera_tiny_224', 'img_size': (64, 96)}, {}),
    ],
)
def test_the_classifiers_of_timm_are_equal(arch, encoder, kwargs):
    """With the norm that classification alone has, where timm has it."""
    model = classifier(encoder, head_norm=True).eval()
    given = {k: v for k, v in encoder.items() if k not in ('type', 'arch', 'positions', 'final_norm')}
    pooling = {'global_pool': 'avg', 'fc_norm': True} if kwargs else {}
    theirs = timm.create_model(arch, num_classes=K, **given, **pooling).eval()
    names = {'head.norm.': ('fc_norm.', 'head.norm.'), 'head.linear.': ('head.', 'head.fc.')}
    state = {k.removeprefix('encoder.body.'): v for k, v in model.state_dict().items()}
    for ours, options in names.items():
        for part in ('weight', 'bias'):
            (name,) = (o + part for o in options if o + part in theirs.state_dict())
            state[name] = state.pop(ours + part) if ours + part != name else state[name]
    theirs.load_state_dict(state)
    size = encoder.get('img_size', (64, 96))
    torch.testing.assert_close(model(images(size=size)), theirs(images(size=size)), rtol=1e-4, atol=1e-4)


def test_hard_and_mixed_labels():
    model = classifier(label_smoothing=0.2).eval()
    labels, shares = torch.tensor([1, 3]), torch.zeros(2, K)
    shares[0, 1], shares[1, 3] = 1.0, 1.0
    logits = model(images())
    smooth = shares * 0.8 + 0.2 / K
    expected = -(smooth * logits.log_softmax(1)).sum(1).mean()
    for given in (labels, shares):
        torch.testing.assert_close(model(images(), given, mode='loss')['loss_class'], expected)
    model = classifier(label_smoothing=0.2, loss='binary').eval()
    p = model(images(), mode='predict')
    torch.testing.assert_close(p, logits.sigmoid())
    expected = -(smooth * p.log() + (1 - smooth) * (1 - p).log()).mean()
    for given in (labels, shares):
        torch.testing.assert_close(model(images(), given, mode='loss')['loss_class'], expected)


def test_smoothing_of_mixed_labels_is_that_of_timm():
    data = {'imgs': torch.randint(256, (4, 3, 8, 8), dtype=torch.uint8), 'labels': torch.arange(4)}
    mix = ClassificationPreprocessor(K, mixup={'mixup_alpha': 0.8})
    theirs = timm.data.Mixup(0.8, label_smoothing=0.1, num_classes=K)
    torch.manual_seed(0)
    shares = mix(data, True)['labels']
    torch.manual_seed(0)
    np.random.seed(int(torch.randint(2**31, ())))
    _, smoothed = theirs(torch.zeros(4, 3, 8, 8), torch.arange(4))
    torch.testing.assert_close(shares * 0.9 + 0.1 / K, smoothed)
    assert (shares.sum(1) - 1).abs().max() < 1e-6 and (shares > 0).sum() == 8


def test_probing_changes_nothing_of_the_encoder():
    model = classifier('SparseCNN', freeze=True, batch_norm=True)
    before = {name: value.clone() for name, value in model.encoder.state_dict().items()}
    assert not any(p.requires_grad for p in model.encoder.parameters())
    assert not any(m.training for m in model.train().encoder.modules()) and model.head.training
    wrapper = torch.optim.SGD([p for p in model.parameters() if p.requires_grad], lr=1.0, weight_decay=0.1)
    head = model.head.linear.weight.clone()
    for _ in range(3):
        model(images(), torch.tensor([0, 1]), mode='loss')['loss_class'].backward()
        wrapper.step()
    assert not torch.equal(model.head.linear.weight, head)
    assert model.head.batch_norm.num_batches_tracked == 3 and not list(model.head.batch_norm.parameters())
    assert model.head.batch_norm.eps == 1e-6
    assert all(torch.equal(value, before[name]) for name, value in model.encoder.state_dict().items())
    assert model.encoder.encode(images()).maps[-1].grad_fn is None


def test_the_head_is_drawn_as_it_is_told():
    head = Classifier(dict(ENCODERS['ViT']) | {'embed_dim': 192}, 1000, head_std=2e-5).head
    assert head.linear.weight.std().item() == pytest.approx(2e-5, rel=0.15)
    assert not head.linear.bias.any() and head.linear.weight.abs().max() <= 4.1e-5


def test_erasing_and_mixing_follow_from_torchs_seed_and_only_in_training():
    preprocessor = ClassificationPreprocessor(K, random_erasing=1.0, mixup={'mixup_alpha': 0.8, 'cutmix_alpha': 1.0})
    data = {'imgs': torch.randint(256, (4, 3, 16, 24), dtype=torch.uint8), 'labels': torch.tensor([0, 1, 2, 4])}
    plain = preprocessor(data, False)
    assert torch.equal(plain['labels'], data['labels'])
    normalized = (data['imgs'] - preprocessor.mean) / preprocessor.std
    torch.testing.assert_close(plain['imgs'], normalized)
    random.seed(2), np.random.seed(2)
    expected = random.random(), np.random.rand()
    random.seed(2), np.random.seed(2)
    out = []
    for seed in (0, 0, 1):
        torch.manual_seed(seed)
        out.append(preprocessor(data, True))
    assert (random.random(), np.random.rand()) == expected
    for key in ('imgs', 'labels'):
        assert torch.equal(out[0][key], out[1][key]) and not torch.equal(out[0][key], out[2][key])
    assert out[0]['labels'].shape == (4, K)
    erased = ClassificationPreprocessor(K, random_erasing=1.0)(data, True)
    changed = (erased['imgs'] != normalized).any(1).flatten(1).float().mean(1)
    assert ((changed > 0) & (changed < 0.7)).all() and torch.equal(erased['labels'], data['labels'])
    assert 'labels' not in preprocessor({'imgs': data['imgs']})


def test_a_label_beyond_the_classes_and_an_odd_batch_are_told():
    data = {'imgs': torch.zeros(3, 3, 8, 8, dtype=torch.uint8), 'labels': torch.tensor([0, 1, K])}
    with pytest.raises(UserError, match='An image has the class 5, but the model has num_classes=5, 0 to 4'):
        ClassificationPreprocessor(K)(data)
    with pytest.raises(UserError, match='A batch of 3 images cannot be mixed in pairs'):
        ClassificationPreprocessor(K + 1, mixup={'mixup_alpha': 1.0})(data, True)


def test_the_preprocessor_is_told_the_number_of_classes():
    assert classifier(data_preprocessor=PREPROCESSOR).data_preprocessor.num_classes == K
    assert classifier(data_preprocessor={'type': 'ImagePreprocessor'}).data_preprocessor.mean.shape == (3, 1, 1)


@pytest.mark.parametrize(
    ('arguments', 'sentence'),
    [
        ({'pooling': 'attention'}, "pooling='attention' must be one of mean, max, class"),
        ({'encoder': 'ConvNeXt', 'pooling': 'class'}, "needs a class token, which this ConvNeXt lacks: use 'mean'"),
        ({'encoder': 'ViT without class token', 'pooling': 'class'}, 'which this ViT lacks'),
        ({'label_smoothing': 1.0}, 'label_smoothing=1.0 must be'),
        ({'loss': 'hinge'}, "loss='hinge' must be one of cross_entropy, binary"),
        (
            {'data_preprocessor': PREPROCESSOR | {'mean': [0.0], 'std': [1.0]}},
            '3 channels, but the data_preprocessor has 1',
        ),
        ({'data_preprocessor': PREPROCESSOR | {'random_erasing': 2}}, 'random_erasing=2 must be a probability'),
        (
            {'data_preprocessor': PREPROCESSOR | {'mixup': {'alpha': 1.0}}},
            "Mixup has no argument 'alpha'; did you mean",
        ),
        ({'data_preprocessor': PREPROCESSOR | {'mixup': {'mixup_alpha': 0.0}}}, 'mixup_alpha=0 and no cutmix'),
        ({'data_preprocessor': PREPROCESSOR | {'mixup': {'label_smoothing': 0.1}}}, 'set it there'),
    ],
)
def test_refusals(arguments, sentence):
    with pytest.raises(UserError, match=sentence):
        classifier(**arguments)
    with pytest.raises(UserError, match='num_classes=1 leaves nothing to tell apart'):
        Classifier(dict(ENCODERS['ViT']), 1)
    with pytest.raises(UserError, match='The batch has no labels'):
        classifier()(images(), mode='loss')
    with pytest.raises(UserError, match="mode='los' must be one"):
        classifier()(images(), mode='los')


def accuracy(scores, labels, replaced=None, topk=(1, 2)):
    evaluator = Evaluator(Accuracy(topk))
    batch = {'labels': torch.tensor(labels)} | ({'replaced': replaced} if replaced else {})
    evaluator.process(torch.tensor(scores), batch)
    return evaluator.evaluate(len(labels))


def test_accuracy():
    scores = [[0.7, 0.2, 0.1], [0.1, 0.3, 0.6], [0.2, 0.5, 0.3], [0.1, 0.2, 0.7]]
    assert accuracy(scores, [0, 1, 0, 2]) == {'accuracy/top1': 50.0, 'accuracy/top2': 75.0}
    assert accuracy(scores, [0, 1, 0, 2], [False, True, True, False]) == {'accuracy/top1': 100, 'accuracy/top2': 100}
    assert accuracy(scores, [0, 1, 0, 2], topk=(1, 5)) == {'accuracy/top1': 50.0}  # there are three classes
    nan = float('nan')
    assert accuracy([[0.3, 0.3, 0.3], [nan] * 3], [0, 0], topk=1) == {'accuracy/top1': 0}
    with pytest.raises(UserError, match='No image could be read'):
        accuracy(scores, [0, 1, 0, 2], [True] * 4)
    with pytest.raises(UserError, match=r'topk=\(0,\) must be numbers of classes'):
        Accuracy((0,))


def test_a_batch_norm_before_the_linear_layer_standardises():
    model = classifier(freeze=True, batch_norm=True)
    seen = []
    model.head.linear.register_forward_pre_hook(lambda module, args: seen.append(args[0]))
    model(images(batch=8))
    torch.testing.assert_close(seen[0].mean(0), torch.zeros(24), atol=1e-5, rtol=0)
    torch.testing.assert_close(seen[0].std(0, unbiased=False), torch.ones(24), atol=1e-3, rtol=0)
    assert isinstance(model.head.linear, nn.Linear)
