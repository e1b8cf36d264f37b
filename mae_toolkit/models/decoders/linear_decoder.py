"""No decoder but the prediction head."""

from mae_toolkit.models.decoders.decoder import Decoder
from mae_toolkit.registry import MODELS


@MODELS.register_module()
class LinearDecoder(Decoder):
    """The encoder's last map as it is: the prediction head, a 1x1 convolution, is the decoder (SimMIM,
    arXiv:2111.09886, section 3.3; MaskFeat, arXiv:2112.09133, section 3).

    For encoders that fill the hidden cells themselves, by a mask token.

    Args:
        in_channels (tuple[int, ...]), in_strides (tuple[int, ...]): The encoder's levels.
    """

    pointwise = True

    def __init__(self, in_channels, in_strides):
        super().__init__()
        self.out_channels, self.out_stride = in_channels[-1], in_strides[-1]

    def forward(self, features, cells):
        """Take the last map; see :meth:`Decoder.forward`."""
        return features.maps[-1]
