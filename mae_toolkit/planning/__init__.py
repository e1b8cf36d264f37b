"""From images, labels, device and weights to a complete config, in which every number has its reason."""
