"""Features of a slowly following copy of the encoder as the target."""

import torch

from mae_toolkit.errors import UserError
from mae_toolkit.models.encoders import Encoder
from mae_toolkit.models.targets.feature_maps import averaged, check_norm
from mae_toolkit.models.targets.target import Target
from mae_toolkit.models.teacher import FrozenEncoder
from mae_toolkit.registry import MODELS, build, list_arguments

# What the teacher does in its own way, where its class can: it masks nothing, and its levels have no norm of their own.
OF_TEACHER = dict(final_norm=False, out_norms=False, mask_token=False, frozen_stages=-1, with_cp=False, init_cfg=None)


@MODELS.register_module()
class EMATarget(Target):
    """What a teacher, whose weights are a moving average of the encoder's, makes of the whole image (data2vec).

    Outputs of the last blocks are normalized without factors and averaged (arXiv:2202.03555, section 3.3; there, what
    is averaged are the outputs of the MLPs before they are added; here, of whole blocks). The teacher follows the
    encoder only if the run has a :class:`~mae_toolkit.engine.hooks.MomentumHook`: without it, it stays as it was drawn.
    A teacher without ``norm`` may collapse to a constant.

    Args:
        encoder (dict): The encoder's config, which comes from the model.
        levels (int): How many of its last levels are averaged, at most those that there are: blocks of a ViT; of an
            encoder with stages only those of the last stride and width count, mostly one.
        norm (str | None): ``'layer'`` (over the channels of each position), ``'instance'`` (over the positions of each
            channel) or None.

    Raises:
        UserError: If ``levels`` is no number of 1 or more, or there is no such norm.
    """

    takes = dict(encoder='encoder')

    def __init__(self, encoder, levels=8, norm='layer'):
        super().__init__()
        if not isinstance(levels, int) or levels < 1:
            raise UserError(f'levels={levels!r} is no number of levels, 1 or more.')
        self.norm, teacher = check_norm(norm), _teacher(encoder, levels)
        self.teacher = FrozenEncoder(teacher)
        self.channels, self.stride = teacher.out_channels[-1], teacher.out_strides[-1]
        shapes = zip(teacher.out_channels, teacher.out_strides, strict=True)
        self.alike = tuple(i for i, shape in enumerate(shapes) if shape == (self.channels, self.stride))

    def forward(self, imgs):
        """(B, C, H, W) -> (B, T, H/t, W/t)."""
        maps = self.teacher(imgs)
        return averaged([maps[i] for i in self.alike], self.norm)

    @torch.no_grad()
    def follow(self, encoder, momentum):
        """Move the teacher towards an encoder: parameters become m * teacher + (1 - m) * encoder, buffers its copy.

        Args:
            encoder (Encoder): Of the config of the teacher.
            momentum (float): m, between 0 (a copy) and 1 (nothing moves).

        Raises:
            UserError: If the encoder lacks something that the teacher has.
        """
        own, theirs = _paired(self.teacher.encoder.named_parameters(), encoder.named_parameters())
        torch._foreach_lerp_(own, theirs, 1 - momentum)
        for own, theirs in zip(*_paired(self.teacher.encoder.named_buffers(), encoder.named_buffers()), strict=True):
            own.copy_(theirs)


def _teacher(config, levels):
    """An encoder of the same weights that gives its last levels, up to the one at which the student ends."""
    if not isinstance(config, dict):
        raise UserError(f'EMATarget needs the config of the encoder, a dict, not a {type(config).__name__}.')
    with torch.device('meta'):  # for what it says of itself: no weights are drawn
        student = build(Encoder, config | {'init_cfg': None})
    last = max(student.out_indices)
    accepted = list_arguments(type(student))
    own = {name: value for name, value in OF_TEACHER.items() if name in accepted}
    return build(Encoder, config | own | {'out_indices': tuple(range(max(min(last, 0), last + 1 - levels), last + 1))})


def _paired(own, theirs):
    """Tensors by name, and those of another module of the same names."""
    own, theirs = dict(own), dict(theirs)
    lacking = sorted(own.keys() - theirs.keys())
    if lacking:
        raise UserError(f'The encoder lacks {lacking[0]}, which its teacher has ({len(lacking)} such names).')
    return list(own.values()), [theirs[name] for name in own]
