"""``mae-toolkit demo``."""

import argparse

from mae_toolkit.cli import device, positive_int

RESUME = 'start it again'
MOST_PIXELS, MOST_BYTES = 1 << 25, 1 << 26  # those of demo.uploads, which loads torch
DESCRIPTION = """Serve a page on which a model can be tried: drop in an image, hide parts of it, see what comes back.

  mae-toolkit demo runs/photos
  mae-toolkit demo runs/photos --images photos/ --features features.npz --anomaly parts.safetensors

It shows the reconstruction with its error for masks that are painted or drawn, the features as colors and, as far as
they are given, the nearest images of a folder, anomalies, and what a detector finds. It is reached from this machine
alone, loads nothing from elsewhere, and ends with Ctrl-C. Needs pip install 'mae_toolkit[demo]'.
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of the command."""
    parser.add_argument('checkpoint', metavar='CHECKPOINT', help='run, checkpoint, or [FORMAT:]FILE[#PART]')
    parser.add_argument('--arch', help='architecture of timm, if the weights do not say it')
    parser.add_argument('--images', metavar='FOLDER', help='folder among whose images the nearest ones are found')
    parser.add_argument(
        '--features', metavar='FILE', help='file ending in .npz that keeps the vectors of the folder for the next start'
    )
    parser.add_argument('--anomaly', metavar='FILE', help='detector of anomalies that tools/anomaly.py has fitted')
    parser.add_argument('--detector', metavar='RUN', help='run of a detector, segmenter or classifier')
    parser.add_argument('--size', type=positive_int, help='pixels that the model sees; as in the training by default')
    parser.add_argument('--host', default='127.0.0.1', help='address; by default, only this machine reaches the page')
    parser.add_argument('--port', type=positive_int, help='7860 or the next that is free by default')
    parser.add_argument('--open', action='store_true', help='show the page in the browser of this machine')
    parser.add_argument('--device', type=device, help='cpu or cuda; a GPU if there is one')
    parser.add_argument(
        '--max-pixels', type=positive_int, default=MOST_PIXELS, help=f'refuse larger images; {MOST_PIXELS} by default'
    )
    parser.add_argument(
        '--max-bytes', type=positive_int, default=MOST_BYTES, help=f'refuse larger files; {MOST_BYTES} by default'
    )


def run(args: argparse.Namespace) -> None:
    """Load the models, and serve the page until it is interrupted."""
    from mae_toolkit.datasets import ImageLimits
    from mae_toolkit.demo import Sources, check_gradio, load_models, serve_until_interrupted

    check_gradio()  # before the models are loaded
    sources = Sources(
        args.checkpoint,
        arch=args.arch,
        images=args.images,
        features=args.features,
        anomaly=args.anomaly,
        detector=args.detector,
        size=args.size,
        limits=ImageLimits(args.max_pixels, args.max_bytes),
        device=args.device,
    )
    serve_until_interrupted(load_models(sources), args.host, args.port, args.open)
