"""No decoder but the prediction head."""

from collections.abc import Sequence

from torch import Tensor

from mae_toolkit.models.cells import Cells
from mae_toolkit.models.decoders.decoder import Decoder
from mae_toolkit.models.features import Features
from mae_toolkit.registry import MODELS


@MODELS.register_module()
class LinearDecoder(Decoder):
    """Decoder that passes on the encoder's last map: the prediction head, a 1x1 convolution, does the decoding.

    SimMIM (arXiv:2111.09886, section 3.3) and MaskFeat (arXiv:2112.09133, section 3) do the same. It is for encoders
    that fill the hidden cells themselves, by a mask token.

    Args:
        in_channels: Channels of the encoder's levels.
        in_strides: Pixels per position of these levels.
    """

    pointwise = True

    def __init__(self, in_channels: Sequence[int], in_strides: Sequence[int]) -> None:
        super().__init__()
        self.out_channels, self.out_stride = in_channels[-1], in_strides[-1]

    def forward(self, features: Features, cells: Cells) -> Tensor:
        """Return the last map; see :meth:`Decoder.forward`."""
        return features.maps[-1]
