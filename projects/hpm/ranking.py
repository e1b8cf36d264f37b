"""Which of two cells is harder: a loss on the order alone."""

import torch
from torch.nn.functional import softplus


def ranking_loss(guess, error, where):
    """Binary cross-entropy of all pairs of cells of an image (HPM, arXiv:2304.05919, equation 4).

    A pair is right to the degree to which the cell of the larger error has the larger guess. Pairs of equal errors do
    not count.

    Args:
        guess (Tensor): (B, L), the difference of two of which is a logit.
        error (Tensor): (B, L), without gradient.
        where (Tensor): (B, L) bool, the cells that count.

    Returns:
        Tensor: Mean over the pairs of all images; zero if there is none.
    """
    dtype = torch.promote_types(guess.dtype, torch.float32)
    guess, error = guess.to(dtype), error.to(dtype)
    harder = (error[:, :, None] > error[:, None, :]) & where[:, :, None] & where[:, None, :]  # (B, L, L)
    loss = softplus(guess[:, None, :] - guess[:, :, None])  # - log sigmoid(harder - easier)
    return loss.masked_fill(~harder, 0).sum() / harder.sum().clamp(min=1)
