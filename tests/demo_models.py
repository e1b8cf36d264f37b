"""A small checkpoint for the page of mae-toolkit demo, and files that visitors might give."""

import struct
import zlib

import numpy as np
import tifffile
import torch
from PIL import Image

from mae_toolkit.apis import build_model, load_config
from tiny import OPTIONS, QUICKSTART

SIDE = 20_000


def make_checkpoint(path, decoder=True):
    """An untrained checkpoint of the small quickstart with its config; perhaps without the decoder."""
    torch.manual_seed(0)
    cfg = load_config(QUICKSTART, OPTIONS)
    state = build_model(cfg).state_dict()
    if not decoder:
        state = {name: value for name, value in state.items() if name.startswith('encoder.')}
    torch.save({'state_dict': state, 'meta': {'cfg': cfg.pretty_text}}, path)
    return str(path)


def make_photos(folder, count=4):
    """Smooth random pictures of 48 x 40 pixels."""
    rng = np.random.default_rng(0)
    for number in range(count):
        small = Image.fromarray(rng.integers(0, 255, (5, 6, 3), np.uint8))
        small.resize((48, 40), Image.Resampling.BICUBIC).save(folder / f'{number}.png')
    return str(folder)


def write_files(folder):
    """Files by what they are: good ones, and such as have to be refused."""
    rng = np.random.default_rng(1)
    color = rng.integers(0, 255, (40, 60, 3), np.uint8)
    Image.fromarray(color).save(folder / 'color.png')
    Image.fromarray(color[..., 0]).save(folder / 'gray.png')
    Image.fromarray(np.concatenate([color, color[..., :1]], -1)).save(folder / 'rgba.png')
    Image.fromarray(color).convert('CMYK').save(folder / 'cmyk.jpg')
    Image.fromarray(rng.integers(200, 4000, (40, 60)).astype(np.uint16)).save(folder / 'deep.png')
    tifffile.imwrite(
        folder / 'five.tif',
        rng.integers(0, 255, (40, 60, 5), np.uint8),
        photometric='minisblack',
        planarconfig='contig',
    )
    np.save(folder / 'floats.npy', rng.random((40, 60, 3), np.float32))
    Image.fromarray(np.zeros((4, 9000, 3), np.uint8)).save(folder / 'thin.png')
    (folder / 'notes.txt').write_text('no image')
    (folder / 'empty.png').write_bytes(b'')
    (folder / 'torn.png').write_bytes((folder / 'color.png').read_bytes()[:900])
    write_huge_png(folder / 'huge.png')
    return folder


def write_huge_png(path):
    """A PNG of a few bytes whose header promises 20,000 pixels a side."""
    header = struct.pack('>IIBBBBB', SIDE, SIDE, 8, 2, 0, 0, 0)
    parts = [(b'IHDR', header), (b'IDAT', zlib.compress(bytes(100))), (b'IEND', b'')]
    chunks = [struct.pack('>I', len(d)) + n + d + struct.pack('>I', zlib.crc32(n + d)) for n, d in parts]
    path.write_bytes(b'\x89PNG\r\n\x1a\n' + b''.join(chunks))
