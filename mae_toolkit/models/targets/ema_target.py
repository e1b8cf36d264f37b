"""Features of a copy of the encoder, which follows it slowly, as the target."""

from typing import Any

import torch
from torch import Tensor

from mae_toolkit.errors import UserError
from mae_toolkit.models.encoders import Encoder
from mae_toolkit.models.targets.feature_maps import average_maps, check_norm
from mae_toolkit.models.targets.target import Target
from mae_toolkit.models.teacher import FollowingEncoder, copy_buffers, pair_tensors
from mae_toolkit.registry import MODELS, build, list_arguments
from mae_toolkit.sharded_tensors import take_local

# Arguments that the teacher sets otherwise than the encoder: it masks nothing, and its levels have no norms.
TEACHER_ARGUMENTS: dict[str, Any] = dict(
    final_norm=False, out_norms=False, mask_token=False, frozen_stages=-1, with_cp=False, init_cfg=None
)


@MODELS.register_module()
class EMATarget(Target):
    """Features of the whole image by a teacher, whose weights are a moving average of the encoder's.

    The outputs of the last blocks are normalized without factors and averaged, as in data2vec (arXiv:2202.03555,
    section 3.3; data2vec averages the outputs of the MLPs before the residual connection, this class those of whole
    blocks). The teacher follows the encoder only in a run with a :class:`~mae_toolkit.engine.hooks.MomentumHook`;
    without it, the teacher keeps the weights that it was initialized with. Without ``norm`` the target may collapse to
    a constant. Batch norms of the teacher have statistics of their own, of whole images.

    Args:
        encoder: Config of the encoder, which comes from the model.
        levels: How many of the last levels are averaged, or all, if there are fewer. The levels of a ViT are its
            blocks. For an encoder with stages only levels of the last stride and width count, usually one.
        norm: ``'layer'`` over the channels of each position, ``'instance'`` over the positions of each channel, or
            None.

    Raises:
        UserError: If ``levels`` is not a whole number of 1 or more, or there is no such norm.
    """

    takes = dict(encoder='encoder')

    def __init__(self, encoder: dict[str, Any], levels: int = 8, norm: str | None = 'layer') -> None:
        super().__init__()
        if not isinstance(levels, int) or levels < 1:
            raise UserError(f'levels={levels!r} must be a whole number of levels, 1 or more.')
        self.norm, teacher = check_norm(norm), _build_teacher(encoder, levels)
        self.teacher = FollowingEncoder(teacher)
        self.channels, self.stride = teacher.out_channels[-1], teacher.out_strides[-1]
        shapes = zip(teacher.out_channels, teacher.out_strides, strict=True)
        self.alike = tuple(i for i, shape in enumerate(shapes) if shape == (self.channels, self.stride))

    def forward(self, imgs: Tensor) -> Tensor:
        """Compute the teacher's features: (B, C, H, W) -> (B, T, H/t, W/t)."""
        maps = self.teacher(imgs)
        return average_maps([maps[i] for i in self.alike], self.norm)

    @torch.no_grad()
    def follow(self, encoder: Encoder, momentum: float) -> None:
        """Move the teacher toward the encoder: parameters become m * teacher + (1 - m) * encoder, buffers a copy.

        Batch norms in training mode keep their running statistics; in evaluation mode, in which MomentumHook calls this
        before the first iteration, they get those of the encoder.

        Args:
            encoder: An encoder of the config of the teacher.
            momentum: m, between 0 (a copy) and 1 (nothing moves).

        Raises:
            UserError: If the encoder lacks something that the teacher has.
        """
        own, theirs = pair_tensors(self.teacher.encoder.named_parameters(), encoder.named_parameters())
        torch._foreach_lerp_(take_local(own), take_local(theirs), 1 - momentum)
        copy_buffers(self.teacher.encoder, encoder)


def _build_teacher(config: dict[str, Any], levels: int) -> Encoder:
    """Build an encoder that has the same weights and gives its last levels, up to the one at which the student ends."""
    if not isinstance(config, dict):
        raise UserError(f'EMATarget needs the config of the encoder, a dict, not a {type(config).__name__}.')
    with torch.device('meta'):  # to ask it for its levels; no weights are drawn
        student = build(Encoder, config | {'init_cfg': None})
    last = max(student.out_indices)
    accepted = list_arguments(type(student))
    own = {name: value for name, value in TEACHER_ARGUMENTS.items() if name in accepted}
    indices = range(max(min(last, 0), last + 1 - levels), last + 1)
    return build(Encoder, type(student).select_levels(config | own, indices))
