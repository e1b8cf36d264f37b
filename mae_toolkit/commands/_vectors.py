"""Options of the commands that work on vectors of images."""

import argparse

from mae_toolkit.cli import device, positive_int


def add_vectors(parser: argparse.ArgumentParser) -> None:
    """Add the options that say where vectors come from: an encoder, or a file of ``mae-toolkit embed``."""
    group = parser.add_argument_group('vectors', 'from an encoder, or from a file that mae-toolkit embed has made')
    group.add_argument('--encoder', metavar='ENCODER', help='run, exported folder, or [FORMAT:]FILE[#PART]')
    group.add_argument('--features', metavar='FILE', help='file of mae-toolkit embed with vectors of the images')
    group.add_argument('--vectors', metavar='NAME', help='level4.mean, say; the mean of the coarsest level by default')
    group.add_argument('--arch', help='architecture of timm, if the weights do not say it')
    group.add_argument('--size', type=positive_int, help='pixels of the images; as in the training by default')
    group.add_argument('--batch-size', type=positive_int, default=32)
    group.add_argument('--device', type=device, help='cpu or cuda; a GPU if there is one')
