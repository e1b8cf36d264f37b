"""Histograms of oriented gradients as the target."""

import math

import torch
from torch.nn.functional import pad, pixel_unshuffle

from mae_toolkit.errors import UserError
from mae_toolkit.models.mask_ops import grid_of
from mae_toolkit.models.targets.target import Target
from mae_toolkit.registry import MODELS

CHOICES = {'gradient': ('sobel', 'central'), 'start': ('vertical', 'horizontal'), 'color': ('each', 'strongest')}
# Values worked on at once: on the CPU, so that they stay in its cache; elsewhere, so that memory stays small.
CHUNK = {'cpu': 2**18}
LARGE_CHUNK = 2**22


@MODELS.register_module()
class HOGTarget(Target):
    """Histograms of oriented gradients: how strong the edges of each direction are, whatever the contrast (MaskFeat,
    arXiv:2112.09133, section 3.2; Dalal and Triggs, CVPR 2005).

    Each channel of the images has a histogram in each square cell: the magnitudes of the gradients, summed by their
    direction in ``nbins`` bins of 180 degrees, divided by their norm. A position of the target has those of its
    (stride / cell)^2 cells, in the order of ``pixel_unshuffle``: channel, bin, row, column.

    By default this is MaskFeat's official target. That of ``skimage.feature.hog`` with ``cells_per_block=(1, 1)`` and
    ``block_norm='L2'`` has ``gradient='central', gaussian_window=None, start='horizontal', eps=1e-5``, and with a
    ``channel_axis`` also ``color='strongest'``.

    A normalization of the images with one mean and deviation per channel changes nothing: Sobel differences that only
    rounding keeps from zero, and that would decide about bins, are taken for zero.

    Args:
        patch (int): Pixels per patch, the encoder's last stride by default.
        in_chans (int): Channels of the images.
        stride (int | None): Pixels per position, a multiple of the cell; the patch if None.
        nbins (int): Directions.
        cell (int): Pixels of the side of a cell.
        gaussian_window (int | None): Magnitudes are weighted by a Gaussian of this many pixels, with half as many as
            its deviation, which is repeated over the image from its corner; not at all if None.
        gradient (str): ``'sobel'``, or ``'central'`` for plain differences of the two neighbors; both are zero across
            the edge of the image.
        start (str): Direction of the gradient at which the first bin starts, ``'vertical'`` or ``'horizontal'``.
        color (str): ``'each'`` channel has its own histograms, or all have one, for which each pixel takes the
            ``'strongest'`` gradient of its channels.
        eps (float): Histograms, as weighted means over the cell, are divided by the root of their squared norm + eps^2.

    Raises:
        UserError: If the cell does not divide the stride, or a choice is unknown.
    """

    takes = dict(patch='stride', in_chans='in_chans')

    def __init__(
        self,
        patch,
        in_chans=3,
        stride=None,
        nbins=9,
        cell=8,
        gaussian_window=16,
        gradient='sobel',
        start='vertical',
        color='each',
        eps=1e-12,
    ):
        super().__init__()
        for name, value in (('gradient', gradient), ('start', start), ('color', color)):
            if value not in CHOICES[name]:
                raise UserError(f'HOGTarget: {name}={value!r} is none of {", ".join(CHOICES[name])}.')
        self.stride = patch if stride is None else stride
        if min(nbins, cell) < 1 or self.stride % cell:
            raise UserError(
                f'HOGTarget: cells of cell={cell} pixels do not divide its stride of {self.stride} pixels: choose a '
                f'cell that does, and nbins={nbins} of 1 or more.'
            )
        self.nbins, self.cell, self.eps = nbins, cell, eps
        self.gradient, self.start, self.color = gradient, start, color
        self.histograms = in_chans if color == 'each' else 1
        self.channels = self.histograms * nbins * (self.stride // cell) ** 2
        self.register_buffer('window', _window(gaussian_window, cell), persistent=False)

    @torch.no_grad()
    def forward(self, imgs):
        """(B, C, H, W) -> (B, T, H/t, W/t) in at least float32."""
        h, w = (n * (self.stride // self.cell) for n in grid_of(imgs, self.stride))
        imgs = imgs.to(torch.promote_types(imgs.dtype, torch.float32))
        count = min(len(imgs), max(1, CHUNK.get(imgs.device.type, LARGE_CHUNK) // imgs[0].numel()))
        # Both are written anew for each chunk: fresh memory costs more than the arithmetic.
        work = imgs.new_empty(3, count, *imgs.shape[1:])
        first = _first_slots(count * self.histograms, h, w, self.cell, 2 * self.nbins + 1, imgs.device)
        slots = torch.empty_like(first)
        cells = []
        for x in imgs.split(count):
            magnitude, bins = self._gradients(x, *work[:, : len(x)])
            taken = slots[: len(bins)].copy_(bins).add_(first[: len(bins)])
            cells.append(self._histograms(magnitude, taken, (h, w)))
        return pixel_unshuffle(torch.cat(cells).unflatten(0, (len(imgs), -1)).flatten(1, 2), self.stride // self.cell)

    def _gradients(self, imgs, across, down, magnitude):
        """Weighted magnitudes and bins (N, H, W) of N maps; what is given besides (B, C, H, W) images is overwritten.

        Bins are counted from -nbins to nbins, half a turn each way.
        """
        _differences(imgs, self.gradient, across, down)
        torch.mul(across, across, out=magnitude).addcmul_(down, down)
        if self.color == 'strongest':
            magnitude, which = magnitude.max(1, keepdim=True)
            across, down = across.gather(1, which), down.gather(1, which)
        rows, columns = (self.window.to(imgs.dtype).repeat(-(-n // len(self.window)))[:n] for n in imgs.shape[-2:])
        magnitude.sqrt_().mul_(rows.unsqueeze(1) * columns)
        sine, cosine = (across, down) if self.start == 'vertical' else (down, across)
        phase = torch.atan2(sine, cosine, out=across).mul_(self.nbins / math.pi)
        # An edge belongs to the bin that starts there, also where rounding of the angle fell below it.
        bins = phase.add_(self.nbins * torch.finfo(imgs.dtype).eps).floor_()
        return magnitude.flatten(0, 1), bins.flatten(0, 1)

    def _histograms(self, magnitude, slots, size):
        """Normalized histograms (N, nbins, h, w) of N maps whose pixels (N, H, W) count into these slots."""
        sums = magnitude.new_zeros(len(magnitude), *size, 2 * self.nbins + 1)
        sums.view(-1).scatter_add_(0, slots.view(-1), magnitude.flatten())
        both = sums[..., self.nbins : -1] + sums[..., : self.nbins]  # opposite directions count alike
        both[..., 0] += sums[..., -1]
        return (both / (both.square().sum(-1, keepdim=True) + self.eps**2).sqrt()).permute(0, 3, 1, 2)


def _window(size, cell):
    """One period of the weights along a side: a Gaussian, or even ones, so that those of a cell or window sum to 1."""
    if size is None:
        return torch.full((1,), 1 / cell)
    if size < 2:
        raise UserError(f'HOGTarget: a gaussian_window={size} has 2 pixels or more; None weights nothing.')
    n = torch.arange(size, dtype=torch.float64) - (size - 1) / 2
    weights = torch.exp(-0.5 * (n / (size // 2)) ** 2)
    return (weights / weights.sum()).float()


def _differences(imgs, gradient, across, down):
    """Write left less right and top less bottom of (B, C, H, W) into two of the same shape."""
    x = pad(imgs, (1, 1, 1, 1), mode='reflect')
    if gradient == 'central':
        torch.sub(x[..., 1:-1, :-2], x[..., 1:-1, 2:], out=across)
        torch.sub(x[..., :-2, 1:-1], x[..., 2:, 1:-1], out=down)
        return
    for along, out in ((-2, across), (-1, down)):  # no convolution: on some devices that is not exact
        first, middle, last = (x.narrow(along, i, imgs.shape[along]) for i in range(3))
        smooth = (first + last).add_(middle, alpha=2)
        other = -3 - along
        size = imgs.shape[other]
        torch.sub(smooth.narrow(other, 0, size), smooth.narrow(other, 2, size), out=out)
        # What remains where eight rounded values should cancel, at most.
        rounding = 16 * torch.finfo(x.dtype).eps * imgs.abs().amax((-2, -1), keepdim=True)  # (B, C, 1, 1)
        out.masked_fill_(out.abs() <= rounding, 0)


def _first_slots(maps, h, w, cell, slots, device):
    """Where bin 0 of each pixel's cell lies (N, H, W) among the slots of all cells (N, h, w, slots)."""
    n, row, column = (torch.arange(size, device=device) for size in (maps, h * cell, w * cell))
    cells = (n.view(-1, 1, 1) * h + (row // cell).unsqueeze(1)) * w + column // cell
    return cells.mul_(slots).add_(slots // 2)
