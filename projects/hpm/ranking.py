"""A loss on the order of cells: which of two is harder."""

import torch
from torch import Tensor
from torch.nn.functional import softplus


def ranking_loss(guess: Tensor, error: Tensor, where: Tensor) -> Tensor:
    """Compute the binary cross-entropy of all pairs of cells of an image (HPM, arXiv:2304.05919, equation 4).

    In each pair the cell of the larger error should have the larger guess. Pairs of equal errors do not count.

    Args:
        guess: (B, L); the difference of two guesses is a logit.
        error: (B, L), without gradient.
        where: (B, L) bool, True for the cells that count.

    Returns:
        The mean over the pairs of all images; zero if there is no pair.
    """
    dtype = torch.promote_types(guess.dtype, torch.float32)
    guess, error = guess.to(dtype), error.to(dtype)
    harder = (error[:, :, None] > error[:, None, :]) & where[:, :, None] & where[:, None, :]  # (B, L, L)
    loss = softplus(guess[:, None, :] - guess[:, :, None])  # - log sigmoid(harder - easier)
    return loss.masked_fill(~harder, 0).sum() / harder.sum().clamp(min=1)
