"""Features of whole images."""

import torch


@torch.no_grad()
def extract_pooled_features(model, loader):
    """The encoder's last map of every image, averaged over its positions.

    The class token, where there is one, is left out: reconstruction does not train it to stand for the image.

    Args:
        model (MaskedAutoencoder): Its data preprocessor and encoder are used, in evaluation mode.
        loader (DataLoader): Gives batches as :func:`image_collate` makes them.

    Returns:
        Tensor: (N, C) float32 on the CPU, in the order of the loader.
    """
    training = model.training
    model.eval()
    features = []
    for batch in loader:
        imgs = model.data_preprocessor(batch)['imgs']
        features.append(model.encoder(imgs)[-1].float().mean((2, 3)).cpu())
    model.train(training)
    return torch.cat(features)
