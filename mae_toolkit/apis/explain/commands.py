"""The sub-commands of ``tools/explain.py``: one function and its arguments each.

A new one needs a file beside this one, with a function ``explain_NAME(source, images, *, device=None, ...)`` that
returns an :class:`Explanation`, and a function ``add_arguments(parser)`` whose options have the names of the other
arguments; and a line in :data:`COMMANDS`.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

from mae_toolkit.apis.explain import (
    attention,
    attention_distance,
    bias,
    cka,
    components,
    dependence,
    embedding_map,
    receptive_field,
    reconstruction,
)
from mae_toolkit.apis.explain.explanation import Explanation, check_explanation_files
from mae_toolkit.argument_types import device, output_file
from mae_toolkit.evaluation.embeddings.reading import list_items

OWN = ('command', 'source', 'images', 'out', 'force')  # arguments that are not those of the function


class Command(NamedTuple):
    """A sub-command.

    Attributes:
        explain: Its function.
        add_arguments: Adds the options of the function, under the names of its arguments.
        help: What it shows, in half a sentence.
    """

    explain: Callable[..., Explanation]
    add_arguments: Callable[[argparse.ArgumentParser], None]
    help: str


COMMANDS = {
    'attention': Command(
        attention.explain_attention,
        attention.add_arguments,
        'where each attention head looks, from a place of an image or on average',
    ),
    'attention-distance': Command(
        attention_distance.explain_attention_distance,
        attention_distance.add_arguments,
        'how far each attention head looks, in pixels',
    ),
    'reconstruction': Command(
        reconstruction.explain_reconstruction,
        reconstruction.add_arguments,
        'what a masked autoencoder makes of hidden parts, by ratio, unit and masking, with errors',
    ),
    'components': Command(
        components.explain_components,
        components.add_arguments,
        'features as colors that mean the same in every image: their main components',
    ),
    'map': Command(
        embedding_map.explain_map,
        embedding_map.add_arguments,
        'all images on a plane, similar ones near each other, by t-SNE or UMAP',
    ),
    'cka': Command(
        cka.explain_cka,
        cka.add_arguments,
        'how alike the layers of two encoders, or of two checkpoints, are',
    ),
    'bias': Command(
        bias.explain_bias,
        bias.add_arguments,
        'which patterns of your images the model reconstructs worse than those of its training',
    ),
    'dependence': Command(
        dependence.explain_dependence,
        dependence.add_arguments,
        'which visible cells the reconstruction of a hidden cell depends on',
    ),
    'receptive-field': Command(
        receptive_field.explain_receptive_field,
        receptive_field.add_arguments,
        'which pixels a position of a feature map depends on, and how far it reaches',
    ),
}


def add_commands(parser: argparse.ArgumentParser) -> None:
    """Add all sub-commands to the parser of the tool."""
    commands = parser.add_subparsers(dest='command', required=True, metavar='NAME')
    for name, command in COMMANDS.items():
        own = commands.add_parser(
            name, help=command.help, description=(command.explain.__doc__ or '').partition('\n')[0]
        )
        own.add_argument('source', metavar='SOURCE', help='run, exported folder, checkpoint, or [FORMAT:]FILE[#PART]')
        own.add_argument('images', nargs='+', metavar='IMAGES', help='files, folders, or patterns')
        own.add_argument(
            '--out', required=True, type=output_file, metavar='PICTURE', help='file ending in .png; numbers in .json'
        )
        own.add_argument('--force', action='store_true', help='replace a file that is there, whoever wrote it')
        own.add_argument('--device', type=device, help='cpu or cuda; a GPU if there is one')
        command.add_arguments(own)


def run_command(options: argparse.Namespace) -> Explanation:
    """Run a sub-command and write its files.

    Args:
        options: What the parser returned.

    Raises:
        UserError: If the output would replace something, or the function refuses its arguments.
    """
    images = options.images[0] if len(options.images) == 1 else options.images
    items, _ = list_items(images)
    check_explanation_files(options.out, options.force, [options.source, *items])
    arguments = {name: value for name, value in vars(options).items() if name not in OWN}
    explanation = COMMANDS[options.command].explain(options.source, images, **arguments)
    explanation.write(Path(options.out), options.force)
    return explanation
