"""A distance of pictures as a trained network sees them."""

import torch
from torch.nn.functional import adaptive_avg_pool2d, normalize

from mae_toolkit.checkpoints.files import load_weights
from mae_toolkit.errors import UserError
from mae_toolkit.models.losses.picture_loss import PictureLoss
from mae_toolkit.models.teacher import IMAGENET_MEAN, IMAGENET_STD, Teacher
from mae_toolkit.registry import MODELS

VGG16 = dict(type='SparseCNN', arch='vgg16', out_indices=(0, 1, 2, 3, 4))


@MODELS.register_module()
class PerceptualLoss(PictureLoss):
    """Squared difference of features of unit length, over several levels (LPIPS, arXiv:1801.03924, equation 1).

    At each level the difference is averaged over the positions of predicted cells, summed over channels (weighted by
    LPIPS's linear weights, if they are given), and the levels are summed. The network works in at least float32.

    Args:
        target (Target): What is predicted: a picture.
        network (dict | None), checkpoint (str | None), mean (tuple | None), std (tuple | None), network_mean (tuple),
            network_std (tuple): See :class:`~mae_toolkit.models.teacher.Teacher`; by default the five
            levels of VGG16 that LPIPS compares, whose weights of torchvision or timm are read.
        linear (str | None): Path of LPIPS's own weights of the levels' channels, under its names
            ``lin0.model.1.weight`` and so on; its published ones are for VGG16, AlexNet and SqueezeNet.
        weight (float): Factor in the sum of losses.

    Raises:
        UserError: As of the network, or if the linear weights are not those of its levels.
    """

    takes = dict(mean='mean', std='std')

    has_own_weights = True  # weights of others, when they are read into a model, need not have these

    def __init__(
        self,
        target,
        network=None,
        checkpoint=None,
        linear=None,
        mean=None,
        std=None,
        network_mean=IMAGENET_MEAN,
        network_std=IMAGENET_STD,
        weight=1.0,
    ):
        super().__init__(target, weight)
        network = VGG16 if network is None else network
        self.network = Teacher(network, checkpoint, self.channels, mean, std, network_mean, network_std)
        for i, factors in enumerate(_linear(linear, self.network.channels)):
            self.register_buffer(f'linear{i}', factors, persistent=linear is not None)

    def compare(self, picture, original, predict):
        """Distance of pictures (B, C, H, W) at the positions of ``predict`` (B, 1, H, W)."""
        with torch.no_grad():
            wanted = self.network(original)
        return sum(
            self._level(i, x, y, predict) for i, (x, y) in enumerate(zip(self.network(picture), wanted, strict=True))
        )

    def _level(self, i, x, y, predict):
        difference = (normalize(x, dim=1) - normalize(y, dim=1)).square()  # (B, C, h, w)
        distance = (difference * getattr(self, f'linear{i}')).sum(1, keepdim=True)
        share = adaptive_avg_pool2d(predict.to(distance.dtype), distance.shape[-2:])  # of the position
        return (distance * share).sum() / share.sum()


def _linear(path, channels):
    """Factors (1, C_i, 1, 1) of the channels of each level."""
    if path is None:
        return [torch.ones(1, c, 1, 1) for c in channels]
    state = load_weights(path)
    factors = [state.get(f'lin{i}.model.1.weight') for i in range(len(channels))]
    found = tuple(None if x is None else x.numel() for x in factors)
    if found != tuple(channels):
        raise UserError(f'{path} has linear weights for channels {found}, and the network gives {tuple(channels)}.')
    return [x.float().view(1, -1, 1, 1) for x in factors]
