"""The encoder in official pretraining checkpoints of SparK, FCMAE, SimMIM, GreenMIM and Hiera.

Each method saves its encoder under a prefix of its own, beside its decoder. Here the encoder is taken out, under the
names of the architecture's own official release, which timm's filters read.
"""

from typing import NamedTuple

from torch import Tensor


class OfficialEncoder(NamedTuple):
    """An encoder out of a pretraining checkpoint.

    Attributes:
        method: Whose checkpoint it is.
        weights: Under the names of the architecture's official release.
        mask_token: (C,), of a method that puts it into the encoder, or None.
        left: Names of what belongs to the decoder or to training.
    """

    method: str
    weights: dict[str, Tensor]
    mask_token: Tensor | None
    left: list[str]


def encoder_of(state):
    """The :class:`OfficialEncoder` in a state dict of a method's own names, or None for other names."""
    if any(name.startswith('sparse_encoder.sp_cnn.') for name in state):
        return _taken('SparK', state, 'sparse_encoder.sp_cnn.')
    if 'encoder.downsample_layers.0.0.weight' in state:
        taken = _taken('FCMAE', state, 'encoder.')
        return taken._replace(weights=dict(_from_minkowski(*item) for item in taken.weights.items()))
    if 'encoder.layers.0.blocks.0.attn.qkv.weight' in state:
        taken = _taken('GreenMIM' if 'decoder_embed.weight' in state else 'SimMIM', state, 'encoder.')
        token = taken.weights.pop('mask_token', None)
        return taken._replace(mask_token=None if token is None else token.flatten())
    if any(name.startswith('multi_scale_fusion_heads.') for name in state):
        weights = {name: v for name, v in state.items() if name.startswith(('blocks.', 'patch_embed.', 'pos_embed'))}
        return OfficialEncoder('Hiera', weights, None, sorted(state.keys() - weights.keys()))
    return None


def _taken(method, state, prefix):
    weights = {name.removeprefix(prefix): v for name, v in state.items() if name.startswith(prefix)}
    return OfficialEncoder(method, weights, None, sorted(name for name in state if not name.startswith(prefix)))


def _from_minkowski(name, tensor):
    """Name and tensor of a layer of MinkowskiEngine as those of the dense layer that computes the same.

    Its kernels are (positions, ...), a position being column * k + row; its biases and GRN have a leading dimension.
    """
    name = name.replace('.ln.', '.').replace('.linear.', '.')
    if name.endswith('.kernel'):
        side = round(tensor.shape[0] ** 0.5)
        kernel = tensor.unflatten(0, (side, side)).transpose(0, 1)  # (row, column, ...)
        dense = kernel.permute(2, 0, 1)[:, None] if tensor.dim() == 2 else kernel.permute(3, 2, 0, 1)
        return name.removesuffix('kernel') + 'weight', dense
    return name, tensor[0] if tensor.dim() == 2 and tensor.shape[0] == 1 else tensor
