"""What a part may offer beyond its base class, and who asks for it.

The toolkit asks for these abilities by ``isinstance(part, ...)``, so that a part of a user's own, or one of another
library, needs no base class of ours: it has one of them as soon as it has its attributes. Each protocol says who asks
and who answers.
"""

from collections.abc import Collection, Iterable, Sequence
from typing import Any, Protocol, runtime_checkable

import numpy as np
from torch import Tensor, nn


@runtime_checkable
class HasOwnWeights(Protocol):
    """A network within a model that brings its own weights, such as a teacher or a perceptual network.

    Asked by ``checkpoints.load``: weights that are read into the model need not have these. Answered by ``Teacher``,
    ``PerceptualLoss`` and the loss predictor of HPM.

    Attributes:
        has_own_weights: True.
    """

    has_own_weights: bool


@runtime_checkable
class HasCheckpointFormats(Protocol):
    """A model that reads checkpoints which no other model reads.

    Asked by ``checkpoints.translate``. Answered by ``MaskedAutoencoder``, and by the models of MixMIM and UM-MAE.
    """

    @property
    def checkpoint_formats(self) -> Iterable[Any]:
        """Formats (:class:`~mae_toolkit.checkpoints.names.Format`) that are tried before those that all models read."""


@runtime_checkable
class HasPositionGrid(Protocol):
    """A part with a table of positions.

    Asked by ``checkpoints.positions``, which resizes the table when weights of another grid are loaded. Answered by
    encoders, ``LearnedPositions`` and ``TimmNetwork``.

    Attributes:
        position_grid: Rows and columns of the table; None where there is no table.
    """

    position_grid: tuple[int, int] | None


@runtime_checkable
class NamesUndecayedParameters(Protocol):
    """A part with parameters that are not to be decayed, whatever their shape; the convention is that of timm.

    Asked by the constructors of optimizers. Answered by encoders, by tables of positions, and by timm's networks.
    """

    def no_weight_decay(self) -> Collection[str]:
        """Return the names of the parameters within the part."""


@runtime_checkable
class HasLayerDepth(Protocol):
    """A network that knows in which of its layers a parameter lies.

    Asked by ``LayerDecayOptimWrapperConstructor``. Answered by encoders; of other networks, see
    :class:`HasGroupMatcher`.
    """

    def layer_depth(self, name: str, grouping: str = 'block') -> tuple[int, int]:
        """Return the depth of a parameter by its name within the network, and the greatest depth.

        Args:
            name: Name of the parameter.
            grouping: What counts as a layer.
        """


@runtime_checkable
class HasGroupMatcher(Protocol):
    """A network that names the layers of its parameters as timm's networks do.

    Asked by ``LayerDecayOptimWrapperConstructor`` where there is no ``layer_depth``. Answered by timm's networks.
    """

    def group_matcher(self, coarse: bool = False) -> dict[str, Any]:
        """Return patterns of the names of the parameters of each layer."""


@runtime_checkable
class HasIntermediates(Protocol):
    """A network that returns the maps of its levels as timm's networks do.

    Asked by ``TimmNetwork`` of a class, and by ``export``. Answered by most of timm's networks.
    """

    def forward_intermediates(self, x: Tensor, *args: Any, **kwargs: Any) -> Any:
        """Return the maps of levels of images (B, C, H, W); see timm."""


@runtime_checkable
class FollowsEncoder(Protocol):
    """A part that is a moving average of the encoder.

    Asked by ``MomentumHook`` after every step of the optimizer. Answered by ``EMATarget`` and the teacher of HPM.
    """

    def follow(self, encoder: nn.Module, momentum: float) -> None:
        """Move toward an encoder: parameters become momentum * own + (1 - momentum) * encoder."""


@runtime_checkable
class HasClassAttention(Protocol):
    """A network that tells to which patches its class token attends.

    Asked by ``AttentionMasking``. Answered by ``ViT`` and ``Eva``.
    """

    def class_attention(self, imgs: Tensor) -> Tensor:
        """Return the attention (B, h, w) to each patch of images (B, C, H, W)."""


@runtime_checkable
class MakesImages(Protocol):
    """A target whose predictions can be shown as images.

    Asked by ``visualization.reconstruction``. Answered by ``PixelTarget`` and ``LaplacianTarget``.

    Attributes:
        norm_pix: Whether patches are normalized by their own mean and deviation.
    """

    norm_pix: bool

    def to_image(self, prediction: Tensor, statistics: Sequence[Tensor] | None = None) -> Tensor:
        """Return the image (B, C, H, W) of a prediction (B, T, H/t, W/t).

        Args:
            prediction: In the units of the target.
            statistics: Mean and deviation that patches shall have under ``norm_pix``.
        """

    def statistics(self, imgs: Tensor) -> Sequence[Tensor]:
        """Return the mean and the deviation of each patch of images (B, C, H, W)."""


@runtime_checkable
class DescribesMaps(Protocol):
    """A backbone that knows the maps that it returns before it has seen an image.

    Asked by ``downstream.necks``; other backbones are tried on an image without memory. Answered by encoders.

    Attributes:
        out_strides: Pixels of the image per cell, by map.
        out_channels: Channels by map.
    """

    out_strides: Sequence[int]
    out_channels: Sequence[int]


@runtime_checkable
class HasOwnSeed(Protocol):
    """A dataset or sampler whose argument ``seed`` is not that of the run.

    Asked by ``engine.data_loading``, which gives the seed of the run to parts that take a ``seed``. Answered by
    ``SubsetByFraction``: runs of different seeds train on the same images.

    Attributes:
        has_own_seed: True.
    """

    has_own_seed: bool


@runtime_checkable
class CanBeCut(Protocol):
    """A dataset that can leave out images, as MMEngine's do.

    Asked by ``SubsetByFraction``. Answered by MMEngine's ``BaseDataset``, and so by the datasets of MMDetection and of
    MMSegmentation.
    """

    def full_init(self) -> None:
        """Read the list of images, unless that is done."""

    def get_subset_(self, indices: Iterable[int] | int) -> None:
        """Keep the images of these indices alone."""


@runtime_checkable
class SetsEpoch(Protocol):
    """A sampler whose order is another one in each epoch.

    Asked by ``EpochTrainLoop`` and by samplers around others. Answered by ``EpochSampler``, by MMEngine's and torch's.
    """

    def set_epoch(self, epoch: int) -> None:
        """Set the epoch of the next iteration."""


@runtime_checkable
class SavesNow(Protocol):
    """A hook that can save a checkpoint between the regular ones.

    Asked by ``PreemptionHook``, when the run has to end. Answered by ``SafeCheckpointHook``.
    """

    def save_now(self, runner: Any) -> str:
        """Save the iteration that ends, from ``after_train_iter`` of a hook, and return the path."""
        ...


@runtime_checkable
class SetsStart(Protocol):
    """A sampler, or a batch sampler, that can begin within an epoch.

    Asked by ``EpochTrainLoop``, which goes on within an epoch when a run is resumed. Answered by ``EpochSampler``,
    ``KeyedSampler`` and ``KeyedBatchSampler``.
    """

    def set_start(self, start: int) -> None:
        """Leave out the first samples, or batches, of this process in the next iteration."""


@runtime_checkable
class SkipsSamples(Protocol):
    """An endless sampler that can begin behind samples without drawing them.

    Asked by ``KeyedSampler`` and by MMEngine's loop by iterations. Answered by MMEngine's ``InfiniteSampler``.
    """

    def skip(self, samples: int) -> None:
        """Begin behind the first samples of this process."""


@runtime_checkable
class ListsBlocks(Protocol):
    """A part of a model that names the modules of which it is built, as units of sharding.

    Asked by ``FSDP2``. Answered by encoders and decoders.
    """

    def list_blocks(self) -> Sequence[nn.Module]:
        """Return the modules that hold most of the parameters, in the order in which they run."""


@runtime_checkable
class HasShards(Protocol):
    """A dataset whose images lie in shards, of which few should be read at a time.

    Asked by ``ShardSampler``. Answered by ``ShardDataset``.

    Attributes:
        shards: The shards, each with ``is_remote``.
        shard_lengths: Number of images of each shard, in the order of their indices.
    """

    shards: Sequence[Any]
    shard_lengths: np.ndarray

    def prefetch(self, shard: int) -> None:
        """Bring a shard to this machine before it is needed."""

    def check_room(self, shards: int) -> None:
        """Refuse a cache that cannot hold a number of shards."""

    def find_shards(self, indices: np.ndarray) -> np.ndarray:
        """Return the numbers of the shards in which the images of indices lie."""


@runtime_checkable
class TakesNotes(Protocol):
    """A dataset that has something to say in the log, such as which source is slow.

    Asked by ``BrokenImagesHook``. Answered by ``ShardDataset``.
    """

    def take_notes(self) -> list[str]:
        """Return the sentences that have come up in this process since the last call."""
