"""The weights with which a training begins (``load_from``)."""

from collections.abc import Mapping
from typing import Any

from mmengine.logging import MMLogger
from torch import Tensor, nn

from mae_toolkit.checkpoints.load import load_weights_into
from mae_toolkit.checkpoints.report import log_report
from mae_toolkit.checkpoints.source import WeightsSource
from mae_toolkit.checkpoints.weights import take_weights
from mae_toolkit.models.encoders import Encoder


def take_starting_weights(
    model: nn.Module,
    source: WeightsSource,
    checkpoint: dict[str, Any],
    begins: bool,
    channels_rule: str | None = None,
) -> Mapping[str, Tensor]:
    """Take weights out of a checkpoint, under the names of a model.

    A pretraining begins with weights of any origin: those of its encoder alone are enough, and tables of positions are
    resized. They are loaded into its model, and the log says what became of every key. A checkpoint of the same model
    gives all its weights, those of decoder and heads, too; ``FILE#encoder`` gives those of the encoder alone. For any
    other purpose the weights have to have the names of the model, and are returned as they are.

    Args:
        model: The model.
        source: Where the checkpoint was read.
        checkpoint: What it holds.
        begins: Whether a training begins with the weights; otherwise they are tested.
        channels_rule: Rule for weights of images with other channels, see :mod:`mae_toolkit.checkpoints.channels`.

    Raises:
        UserError: If there are no weights, or a key of them is not accounted for.
    """
    weights = take_weights(source, checkpoint)
    own: Any = model  # with an encoder, if it is a pretraining
    if not begins or not isinstance(getattr(own, 'encoder', None), Encoder):
        return weights.by_own_names()
    if not (source.format or source.part) and _shapes(weights.tensors) == _shapes(model.state_dict()):
        MMLogger.get_current_instance().info(
            f'The whole model begins with {source}, decoder and heads too; {source}#encoder is for the encoder alone.',
            extra={'for_users': True},
        )
        return weights.tensors
    log_report(load_weights_into(own, weights, channels=channels_rule), 'the model', source)
    return model.state_dict()


def _shapes(state: Mapping[str, Tensor]) -> dict[str, tuple[int, ...]]:
    return {name: tuple(tensor.shape) for name, tensor in state.items()}
