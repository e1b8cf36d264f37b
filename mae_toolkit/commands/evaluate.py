"""``mae-toolkit evaluate``."""

import argparse

from mae_toolkit.cli import add_force, device, fraction, positive_int, seed_number

POOLINGS = ('mean', 'max', 'gem', 'class', 'prefix')
TASKS = ('classes', 'masks')
DESCRIPTION = """Measure what the frozen features of an encoder are worth on a labeled set.

  mae-toolkit evaluate runs/photos --on photos_with_classes/ --out runs/photos/evaluation
  mae-toolkit evaluate timm:convnextv2_tiny.fcmae --on photos_with_masks/ --probes patch-knn
  mae-toolkit evaluate CONFIG CHECKPOINT --on photos_with_classes/ --levels 3 4

Every level and pooling is read by nearest neighbors, logistic regression, a linear and an attentive probe, k-means and
retrieval, or, if there are masks, by nearest neighbors and logistic regression of patches. Level, pooling and probe are
chosen on validation images, settings of a probe on a part of the training images, and the test chooses nothing.
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of the command."""
    parser.add_argument(
        'encoder', metavar='ENCODER', help='run, exported folder, checkpoint, [FORMAT:]FILE[#PART], or a config'
    )
    parser.add_argument(
        'checkpoint', nargs='?', metavar='CHECKPOINT', help='weights for a config; "random" for an untrained encoder'
    )
    parser.add_argument(
        '--on', required=True, metavar='SET', help='class folders, a CSV of files and classes, or images and masks'
    )
    parser.add_argument('--images', help='folder of the images, if SET is a CSV or a folder of masks elsewhere')
    parser.add_argument('--task', choices=TASKS, help='what labels there are; found out by the folders by default')
    parser.add_argument('--probes', nargs='+', metavar='PROBE', help='all that go with the labels by default')
    parser.add_argument('--arch', help='architecture of timm, if the weights do not say it')
    parser.add_argument('--levels', type=positive_int, nargs='+', help='levels, 1 the finest; all by default')
    parser.add_argument('--poolings', nargs='+', choices=POOLINGS, default=POOLINGS, help='all by default')
    parser.add_argument('--size', type=positive_int, help='pixels of the images; as in the training by default')
    parser.add_argument('--neighbors', type=positive_int, nargs='+', metavar='K', help='numbers that are tried')
    parser.add_argument(
        '--label-fraction', type=fraction, default=1.0, metavar='X', help='use this part of the training images alone'
    )
    parser.add_argument('--features', help='file that mae-toolkit embed made of these images by this encoder')
    parser.add_argument('--batch-size', type=positive_int, default=32)
    parser.add_argument('--seed', type=seed_number, default=0, help='of splits, heads and clusters')
    parser.add_argument('--device', type=device, help='cpu or cuda; a GPU if there is one')
    parser.add_argument('--out', metavar='FOLDER', help='folder for evaluation.json, .md and .png')
    add_force(parser)


def run(args: argparse.Namespace) -> None:
    """Run the probes, and print their table."""
    from mae_toolkit.apis.evaluate import evaluate

    found = evaluate(
        args.encoder,
        args.on,
        args.checkpoint,
        images=args.images,
        task=args.task,
        probes=args.probes,
        encoder=args.arch,
        levels=args.levels,
        poolings=args.poolings,
        size=args.size,
        neighbors=args.neighbors,
        label_fraction=args.label_fraction,
        features=args.features,
        batch_size=args.batch_size,
        seed=args.seed,
        device=args.device,
        out=args.out,
        force=args.force,
    )
    print(found.format())
    if args.out:
        print(f'\nwritten to {args.out}')
