"""Codes of patches as the target."""

from pathlib import Path

import torch
from torch import Tensor

from mae_toolkit.checkpoints.weights import load_weights
from mae_toolkit.errors import UserError
from mae_toolkit.models.mask_ops import to_tokens
from mae_toolkit.models.targets.pixel_target import PixelTarget
from mae_toolkit.models.targets.target import Target
from mae_toolkit.registry import MODELS

NUM_CODES = 512
CHUNK = 2**24  # similarities held at once


@MODELS.register_module()
class CodebookTarget(Target):
    """The index of the codebook center that is nearest to each patch.

    BEiT (arXiv:2106.08254, section 2.1) predicts the codes of a trained tokenizer; here they come from a codebook that
    needs no network. Its centers are those of k-means over the patches of the training images
    (``tools/make_codebook.py``) or, without a file, random directions. In the latter case a code says which of many
    random filters a patch answers most, as in BEST-RQ (arXiv:2202.01855, section 3.1). Centers are never trained, and
    are saved in the checkpoint.

    Args:
        patch: Pixels per side of a patch, which is the stride; the encoder's last stride by default.
        in_chans: Channels of the images.
        num_codes: Number of centers; if None, those of the file, or 512 random ones.
        centers: File with a tensor ``centers`` (K, C*t*t) in the order of ``pixel_unshuffle``; drawn if None.
        norm_pix: Normalize each patch first, as :class:`PixelTarget` does. Codes then tell neither how bright a patch
            is nor how strong its contrast.
        seed: Seed of drawn centers, so that all processes draw the same.

    Raises:
        UserError: If there is no such file, or it does not hold as many centers of such patches.
    """

    takes = dict(patch='stride', in_chans='in_chans')
    kind = 'codes'
    centers: Tensor

    def __init__(
        self,
        patch: int,
        in_chans: int = 3,
        num_codes: int | None = None,
        centers: str | None = None,
        norm_pix: bool = True,
        seed: int = 0,
    ) -> None:
        super().__init__()
        if num_codes is not None and num_codes < 2:
            raise UserError(f'CodebookTarget: num_codes={num_codes} leaves nothing to tell apart: use 2 or more.')
        self.pixels = PixelTarget(patch, in_chans, norm_pix)
        values = self.pixels.channels
        if centers is None:
            book = draw_centers(num_codes or NUM_CODES, values, seed)
        else:
            book = _read_centers(centers, values, f'{in_chans} channels and {patch} x {patch} pixels', num_codes)
        self.channels, self.stride = len(book), patch
        self.register_buffer('centers', book)  # (K, C*t*t)

    @torch.no_grad()
    def forward(self, imgs: Tensor) -> Tensor:
        """Find the codes of the patches: (B, C, H, W) -> (B, 1, H/t, W/t), int64."""
        patches = self.patches(imgs)  # (B, C*t*t, h, w)
        codes = find_nearest(to_tokens(patches).flatten(0, 1), self.centers.to(patches.dtype))
        return codes.view(len(imgs), 1, *patches.shape[-2:])

    def patches(self, imgs: Tensor) -> Tensor:
        """Cut images into the vectors to be coded: (B, C, H, W) -> (B, C*t*t, H/t, W/t) in at least float32."""
        return self.pixels(imgs.to(torch.promote_types(imgs.dtype, torch.float32)))


def find_nearest(points: Tensor, centers: Tensor) -> Tensor:
    """Return the index (N,) of the center nearest to each point, by Euclidean distance.

    For centers of equal length this is the center of the greatest cosine.

    Args:
        points: (N, D).
        centers: (K, D).
    """
    half_squares = centers.square().sum(1) / 2  # (K,)
    with torch.autocast(points.device.type, enabled=False):
        parts = points.split(max(1, CHUNK // len(centers)))
        return torch.cat([(part @ centers.T).sub_(half_squares).argmax(1) for part in parts])


def draw_centers(count: int, values: int, seed: int) -> Tensor:
    """Draw unit vectors (count, values) in random directions."""
    drawn = torch.randn(count, values, generator=torch.Generator().manual_seed(seed))
    return drawn / drawn.norm(dim=1, keepdim=True)


def _read_centers(path: str, values: int, patch: str, num_codes: int | None) -> Tensor:
    """Read centers (K, values) from a file, or refuse them; ``patch`` describes the patches in the refusal."""
    if not Path(path).is_file():
        raise UserError(f'There is no codebook {path}: make one with tools/make_codebook.py, or leave centers out.')
    book = load_weights(path).get('centers')
    if book is None or book.ndim != 2:
        raise UserError(f'{path} holds no matrix "centers": make one with tools/make_codebook.py.')
    if book.shape[1] != values:
        raise UserError(
            f'{path} holds centers of {book.shape[1]} values, but patches of {patch} have {values}: make centers for '
            'this config with tools/make_codebook.py.'
        )
    if num_codes not in (None, len(book)):
        raise UserError(f'{path} holds {len(book)} centers, not num_codes={num_codes}: leave num_codes out.')
    return book.float()
