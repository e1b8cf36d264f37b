"""Who answers to which protocol: what is asked of parts at run time is found where it is said to be."""

import inspect
import typing

import pytest
from mmengine.dataset import BaseDataset
from mmengine.dataset.sampler import DefaultSampler, InfiniteSampler
from mmengine.hooks import CheckpointHook
from timm.models import ConvNeXt, VisionTransformer
from torch.utils.data import SequentialSampler

from mae_toolkit import protocols
from mae_toolkit.datasets import EpochSampler, ImageDataset, ShardDataset, SubsetByFraction
from mae_toolkit.datasets.keyed_samplers import KeyedBatchSampler, KeyedSampler
from mae_toolkit.engine.hooks import SafeCheckpointHook, ShardedCheckpointHook
from mae_toolkit.models import EMATarget, HOGTarget, LaplacianTarget, MaskedAutoencoder, PixelTarget, ViT
from mae_toolkit.models.decoders import Decoder
from mae_toolkit.models.layers.positions import LearnedPositions
from mae_toolkit.models.losses import PerceptualLoss
from mae_toolkit.models.teacher import Teacher
from parts import make_model
from shard_sets import make_tars

PROTOCOLS = [cls for _, cls in inspect.getmembers(protocols, inspect.isclass) if getattr(cls, '_is_protocol', False)]
PROTOCOLS = [cls for cls in PROTOCOLS if cls is not typing.Protocol]
METHODS = {  # classes that answer, and one that does not
    'FollowsEncoder': ([EMATarget], HOGTarget),
    'HasLayerDepth': ([ViT], HOGTarget),
    'NamesUndecayedParameters': ([ViT, LearnedPositions], HOGTarget),
    'ListsBlocks': ([ViT, Decoder], HOGTarget),
    'HasClassAttention': ([ViT, Teacher], HOGTarget),
    'HasIntermediates': ([VisionTransformer, ConvNeXt], HOGTarget),
    'CanBeCut': ([BaseDataset], EpochSampler),
    'HasShards': ([ShardDataset], ImageDataset),
    'TakesNotes': ([ShardDataset], ImageDataset),
    'SavesNow': ([SafeCheckpointHook, ShardedCheckpointHook], CheckpointHook),
    'SetsEpoch': ([EpochSampler, KeyedSampler, KeyedBatchSampler, DefaultSampler], SequentialSampler),
    'SetsStart': ([EpochSampler, KeyedSampler, KeyedBatchSampler], DefaultSampler),
    'SkipsSamples': ([InfiniteSampler], DefaultSampler),
}
FLAGS = {
    'HasOwnWeights': ([Teacher, PerceptualLoss], HOGTarget),
    'HasCheckpointFormats': ([MaskedAutoencoder], HOGTarget),
    'HasOwnSeed': ([SubsetByFraction], EpochSampler),
}
OF_INSTANCES = ('HasPositionGrid', 'DescribesMaps', 'MakesImages', 'HasGroupMatcher')


def test_every_protocol_is_tested_and_says_who_asks_and_who_answers():
    names = {cls.__name__ for cls in PROTOCOLS}
    assert names == {*METHODS, *FLAGS, *OF_INSTANCES} and len(names) > 10
    for cls in PROTOCOLS:
        assert 'Asked by' in cls.__doc__ and 'Answered by' in cls.__doc__, cls


@pytest.mark.parametrize('name', METHODS)
def test_methods_have_the_arguments_that_are_asked(name):
    protocol, (answering, other) = getattr(protocols, name), METHODS[name]
    asked = {key: value for key, value in vars(protocol).items() if not key.startswith('_') and callable(value)}
    assert asked
    for cls in answering:
        for method, function in asked.items():
            needed = list(inspect.signature(function).parameters)
            assert len(inspect.signature(getattr(cls, method)).parameters) >= len(needed), (cls, method)
    assert not all(hasattr(other, method) for method in asked)


@pytest.mark.parametrize('name', FLAGS)
def test_flags_are_those_of_classes(name):
    protocol, (answering, other) = getattr(protocols, name), FLAGS[name]
    assert all(isinstance(cls, protocol) for cls in answering) and not isinstance(other, protocol)


def test_what_only_an_instance_has():
    model = make_model()
    assert isinstance(model.encoder, protocols.HasPositionGrid) and isinstance(model.encoder, protocols.DescribesMaps)
    assert isinstance(model.encoder.body, protocols.HasGroupMatcher)
    assert not isinstance(model.decoder, protocols.DescribesMaps | protocols.HasGroupMatcher)
    assert isinstance(PixelTarget(8), protocols.MakesImages) and isinstance(LaplacianTarget(8), protocols.MakesImages)
    assert not isinstance(HOGTarget(8), protocols.MakesImages)


def test_a_dataset_has_its_shards_once_it_is_built(tmp_path):
    dataset = ShardDataset([str(path) for path in make_tars(tmp_path)])
    assert isinstance(dataset, protocols.HasShards) and isinstance(dataset, protocols.TakesNotes)
