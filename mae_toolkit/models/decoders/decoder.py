"""Base class of the decoders."""

from torch import nn


class Decoder(nn.Module):
    """Fills the hidden cells of feature maps; knows nothing of pixels.

    Attributes:
        out_channels (int): Channels D of the output.
        out_stride (int): Pixels d per position of the output.
        pointwise (bool): True if a hidden cell learns nothing from the visible ones here.
    """

    pointwise = False

    def forward(self, features, mask, predict, num_visible=None, num_predict=None):
        """Decode.

        Args:
            features (Features): Maps (B, C_i, H/s_i, W/s_i), zero where hidden, and prefix tokens per level.
            mask (Tensor): (B, 1, h, w) bool, True = hidden from the encoder.
            predict (Tensor): (B, 1, h, w) bool, True = will be compared with the target; other cells may be anything.
            num_visible (int | None): Visible cells of the mask per image; counted if None, which waits for the device.
            num_predict (int | None): True cells of ``predict`` per image; None if they are not as many in every image.

        Returns:
            Tensor: (B, D, H/d, W/d).
        """
        raise NotImplementedError
