"""Histograms of oriented gradients as the target."""

import math

import torch
from torch import Tensor
from torch.nn.functional import pad, pixel_unshuffle

from mae_toolkit.errors import UserError
from mae_toolkit.models.mask_ops import find_grid
from mae_toolkit.models.targets.target import Target
from mae_toolkit.registry import MODELS

CHOICES = {'gradient': ('sobel', 'central'), 'start': ('vertical', 'horizontal'), 'color': ('each', 'strongest')}
# Values that are processed at once: on the CPU they then stay in its cache, elsewhere the memory stays small.
CHUNK = {'cpu': 2**18}
LARGE_CHUNK = 2**22


@MODELS.register_module()
class HOGTarget(Target):
    """Histograms of oriented gradients: how strong the edges of each direction are, whatever the contrast.

    The target is MaskFeat's (arXiv:2112.09133, section 3.2), the histograms are those of Dalal and Triggs (CVPR 2005).
    Each channel has a histogram in each square cell of ``cell`` x ``cell`` pixels: the magnitudes of the gradients are
    summed by their direction in ``nbins`` bins over 180 degrees and divided by the norm of the histogram. A position of
    the target holds the histograms of its (stride / cell)^2 cells in the order of ``pixel_unshuffle``: channel, bin,
    row, column. By default a position of 16 x 16 pixels has 3 channels x 9 bins x 2 x 2 cells = 108 values.

    The defaults are those of MaskFeat's official code. ``gradient='central', gaussian_window=None,
    start='horizontal', eps=1e-5`` gives ``skimage.feature.hog`` with ``cells_per_block=(1, 1)`` and
    ``block_norm='L2'``; with a ``channel_axis`` there, also ``color='strongest'`` here.

    Normalizing the images with one mean and deviation per channel changes nothing. Therefore Sobel differences that
    only rounding keeps from zero are set to zero; else rounding would decide about their bins.

    Args:
        patch: Pixels per side of a patch; the encoder's last stride by default.
        in_chans: Channels of the images.
        stride: Pixels per side of a position, a multiple of ``cell``; the patch if None.
        nbins: Number of directions.
        cell: Pixels per side of a cell.
        gaussian_window: Side of a Gaussian window that weights the magnitudes, in pixels; its deviation is half of it.
            The window is repeated over the image from the upper left corner. None weights nothing.
        gradient: ``'sobel'``, or ``'central'`` for plain differences of the two neighbors; both are zero across the
            edge of the image.
        start: Direction of the gradient at which the first bin starts, ``'vertical'`` or ``'horizontal'``.
        color: ``'each'`` channel has its own histograms, or ``'strongest'``: all share one, to which each pixel adds
            the strongest gradient of its channels.
        eps: A histogram, as a weighted mean over the cell, is divided by the root of its squared norm + eps^2.

    Raises:
        UserError: If the cell does not divide the stride, or a choice is unknown.
    """

    takes = dict(patch='stride', in_chans='in_chans')
    window: Tensor

    def __init__(
        self,
        patch: int,
        in_chans: int = 3,
        stride: int | None = None,
        nbins: int = 9,
        cell: int = 8,
        gaussian_window: int | None = 16,
        gradient: str = 'sobel',
        start: str = 'vertical',
        color: str = 'each',
        eps: float = 1e-12,
    ) -> None:
        super().__init__()
        for name, value in (('gradient', gradient), ('start', start), ('color', color)):
            if value not in CHOICES[name]:
                raise UserError(f'HOGTarget: {name}={value!r} must be one of {", ".join(CHOICES[name])}.')
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
        self.register_buffer('window', _make_window(gaussian_window, cell), persistent=False)

    @torch.no_grad()
    def forward(self, imgs: Tensor) -> Tensor:
        """Compute the histograms: (B, C, H, W) -> (B, T, H/t, W/t) in at least float32."""
        h, w = (n * (self.stride // self.cell) for n in find_grid(imgs, self.stride))
        imgs = imgs.to(torch.promote_types(imgs.dtype, torch.float32))
        count = min(len(imgs), max(1, CHUNK.get(imgs.device.type, LARGE_CHUNK) // imgs[0].numel()))
        # These buffers are reused for each chunk: fresh memory would cost more than the arithmetic.
        work = imgs.new_empty(3, count, *imgs.shape[1:])
        first = _first_slots(count * self.histograms, h, w, self.cell, 2 * self.nbins + 1, imgs.device)
        slots = torch.empty_like(first)
        cells = []
        for x in imgs.split(count):
            magnitude, bins = self._gradients(x, *work[:, : len(x)])
            taken = slots[: len(bins)].copy_(bins).add_(first[: len(bins)])
            cells.append(self._histograms(magnitude, taken, (h, w)))
        return pixel_unshuffle(torch.cat(cells).unflatten(0, (len(imgs), -1)).flatten(1, 2), self.stride // self.cell)

    def _gradients(self, imgs: Tensor, across: Tensor, down: Tensor, magnitude: Tensor) -> tuple[Tensor, Tensor]:
        """Return weighted magnitudes and bins, each (N, H, W), of the N maps of images (B, C, H, W).

        Bins are counted from -nbins to nbins, half a turn each way. The other arguments are buffers of the shape of the
        images, which are overwritten.
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

    def _histograms(self, magnitude: Tensor, slots: Tensor, size: tuple[int, int]) -> Tensor:
        """Sum magnitudes (N, H, W) into the slots of their pixels: normalized histograms (N, nbins, h, w)."""
        sums = magnitude.new_zeros(len(magnitude), *size, 2 * self.nbins + 1)
        sums.view(-1).scatter_add_(0, slots.view(-1), magnitude.flatten())
        both = sums[..., self.nbins : -1] + sums[..., : self.nbins]  # opposite directions count alike
        both[..., 0] += sums[..., -1]
        return (both / (both.square().sum(-1, keepdim=True) + self.eps**2).sqrt()).permute(0, 3, 1, 2)


def _make_window(size: int | None, cell: int) -> Tensor:
    """Make one period of the weights along a side, a Gaussian or constant; those of a window or a cell sum to 1."""
    if size is None:
        return torch.full((1,), 1 / cell)
    if size < 2:
        raise UserError(f'HOGTarget: gaussian_window={size} must be 2 pixels or more, or None for no weights.')
    n = torch.arange(size, dtype=torch.float64) - (size - 1) / 2
    weights = torch.exp(-0.5 * (n / (size // 2)) ** 2)
    return (weights / weights.sum()).float()


def _differences(imgs: Tensor, gradient: str, across: Tensor, down: Tensor) -> None:
    """Write left minus right and top minus bottom of images (B, C, H, W) into two buffers of their shape."""
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
        # The most that remains where eight rounded values should cancel.
        rounding = 16 * torch.finfo(x.dtype).eps * imgs.abs().amax((-2, -1), keepdim=True)  # (B, C, 1, 1)
        out.masked_fill_(out.abs() <= rounding, 0)


def _first_slots(maps: int, h: int, w: int, cell: int, slots: int, device: torch.device) -> Tensor:
    """Return where bin 0 of each pixel's cell lies (N, H, W) among the slots of all cells (N, h, w, slots)."""
    n, row, column = (torch.arange(size, device=device) for size in (maps, h * cell, w * cell))
    cells = (n.view(-1, 1, 1) * h + (row // cell).unsqueeze(1)) * w + column // cell
    return cells.mul_(slots).add_(slots // 2)
