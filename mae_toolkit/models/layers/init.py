"""Initialization of transformers as in MAE."""

from torch import nn


def init_transformer(module: nn.Module) -> None:
    """Draw Xavier-uniform weights of all linear layers; set biases to zero and layer norms to the identity.

    A convolution counts as the linear layer that it is on a flattened patch (MAE, arXiv:2111.06377, appendix A.1).
    """
    for layer in module.modules():
        if isinstance(layer, nn.Linear | nn.Conv2d):
            nn.init.xavier_uniform_(layer.weight.flatten(1))
            if layer.bias is not None:
                nn.init.zeros_(layer.bias)
        elif isinstance(layer, nn.LayerNorm) and layer.elementwise_affine:
            nn.init.ones_(layer.weight)
            nn.init.zeros_(layer.bias)
