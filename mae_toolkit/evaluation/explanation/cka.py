"""How alike the layers of two networks are: linear CKA, without bias, over batches of images."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np
import torch
from torch import Tensor

from mae_toolkit.errors import UserError
from mae_toolkit.evaluation.explanation.layers import list_outputs
from mae_toolkit.models.encoders import Encoder

FEWEST = 4  # images that the estimate without bias needs
FLAT = 1e-10  # of a Gram matrix's own size: less is rounding


class CKA:
    """Centered kernel alignment of layers, added up batch by batch.

    Linear CKA (Kornblith et al., arXiv:1905.00414, section 3) compares the similarities between images in both layers:
    1 means that they are the same up to a rotation and a factor, 0 that they have nothing to do with each other. The
    Hilbert-Schmidt independence criterion is estimated without bias and averaged over batches (Nguyen et al.,
    arXiv:2010.15327, section 3), so that neither few images nor many channels make unrelated layers look alike.

    Example::

        cka = CKA()
        for one, two in batches:  # lists of activations (B, ...), in which a row is the same image
            cka.add([compute_gram(x) for x in one], [compute_gram(x) for x in two])
        cka.compute()  # (layers of the first, layers of the second)
    """

    def __init__(self) -> None:
        self._sums: list[np.ndarray] = []
        self._sizes: list[np.ndarray] = []
        self.images = 0

    def add(self, first: Sequence[Tensor], second: Sequence[Tensor]) -> None:
        """Add a batch.

        Args:
            first: Gram matrices (B, B) of the layers of the first network, see :func:`compute_gram`.
            second: The same of the second network.

        Raises:
            UserError: If the batch has fewer than four images, or a matrix is not finite.
        """
        count = len(first[0])
        if count < FEWEST:
            raise UserError(f'A batch of {count} images is too small for CKA: it takes {FEWEST} or more.')
        if not all(gram.isfinite().all() for gram in (*first, *second)):
            raise UserError('The activations are not finite: the weights are broken, or images far from the training.')
        x, y = (torch.stack([_center(gram).flatten() for gram in grams]) for grams in (first, second))
        factor = 1 / (count - 3)  # 1 / (n (n - 3)) of the estimate, times n: a batch weighs as much as it has images
        products = [x @ y.T, x.square().sum(1), y.square().sum(1)]
        sums = [(values * factor).cpu().numpy() for values in products]
        sizes = [torch.stack([gram.double().square().sum() for gram in grams]) for grams in (first, second)]
        size = [(values * factor).cpu().numpy() for values in sizes]
        self._sums = [a + b for a, b in zip(self._sums, sums, strict=True)] if self._sums else sums
        self._sizes = [a + b for a, b in zip(self._sizes, size, strict=True)] if self._sizes else size
        self.images += count

    def compute(self) -> np.ndarray:
        """Return the CKA of each layer of the first network and each of the second, (layers, layers) float64.

        It may be a little below 0, as the estimate has no bias; NaN where a layer is the same for all images.
        """
        both, one, two = self._sums
        own = [np.where(s > FLAT * size, s, np.nan) for s, size in zip((one, two), self._sizes, strict=True)]
        return both / np.sqrt(own[0][:, None] * own[1][None])


def compute_gram(x: Tensor) -> Tensor:
    """Compute the similarities (B, B) float64 of the images in a layer: products of their centered activations.

    Args:
        x: (B, ...), all positions and channels of an image in any order.
    """
    rows = x.flatten(1)
    rows = rows.float() if rows.dtype in (torch.float16, torch.bfloat16) else rows
    rows = rows - rows.mean(0)  # changes nothing but the rounding
    return (rows @ rows.T).double()


def compare_layers(first: Encoder, second: Encoder, batches: Iterable[tuple[Tensor, Tensor]]) -> tuple[np.ndarray, int]:
    """Compute the CKA of the layers of two encoders.

    Args:
        first: An encoder.
        second: Another one, or the same.
        batches: The same images as either encoder takes them, (B, C, H, W) each; batches of fewer than four images are
            left out.

    Returns:
        CKA (layers, layers), and the number of images.

    Raises:
        UserError: If there is no batch of four images.
    """
    cka = CKA()
    for one, two in batches:
        if len(one) < FEWEST:
            continue
        grams = list_outputs(first, one, compute_gram)
        cka.add(grams, grams if second is first else list_outputs(second, two, compute_gram))
    if not cka.images:
        raise UserError(f'CKA compares the similarities between images: it takes {FEWEST} images or more.')
    return cka.compute(), cka.images


def _center(gram: Tensor) -> Tensor:
    """Center a Gram matrix (B, B) so that products of such matrices have no bias (Song et al., 2012, equation 5).

    The diagonal is left out, and the mean of each row and column is that of the others (Szekely and Rizzo, 2014,
    definition 2).
    """
    n = len(gram)
    gram = gram.double().fill_diagonal_(0) if gram.dtype != torch.float64 else gram.clone().fill_diagonal_(0)
    sums = gram.sum(0)
    centered = gram - (sums[:, None] + sums) / (n - 2) + sums.sum() / ((n - 1) * (n - 2))
    return centered.fill_diagonal_(0)
