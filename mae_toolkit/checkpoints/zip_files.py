"""Looking at files of ``torch.save`` as the zip archives that they are: for damage, compression, other contents."""

import os
import zipfile
from pathlib import Path

# A compressed file may grow GROWTH times and by ALLOWANCE bytes: weights shrink by a tenth, zeros by a thousand.
GROWTH, ALLOWANCE = 100, 2**30


def begins_as_zip(path: str | Path) -> bool:
    """Tell whether a file begins as a zip archive does."""
    with open(path, 'rb') as file:
        return file.read(4) == b'PK\x03\x04'


def find_damage(path: str | Path) -> str | None:
    """Compare the checksums in a file of ``torch.save`` with what it holds.

    Returns:
        How it is damaged, as a clause; None if it is not, or is no zip archive and so has no checksums.
    """
    if not begins_as_zip(path):
        return None
    try:
        with zipfile.ZipFile(path) as file:
            if _has_no_checksums(file):
                return None
            record = file.testzip()
    except Exception as error:  # zipfile meets damage in many ways: BadZipFile, zlib.error, UnicodeDecodeError, ...
        return f'its zip structure is broken ({type(error).__name__}: {error})'
    return None if record is None else f'{record} in it is not what was written'


def is_compressed(path: str | Path) -> bool:
    """Tell whether a zip archive holds compressed records, so that it cannot be mapped into memory."""
    try:
        with zipfile.ZipFile(path) as file:
            return any(record.compress_type != zipfile.ZIP_STORED for record in file.infolist())
    except Exception:  # torch reports damage
        return False


def find_reason(path: str | Path) -> str | None:
    """Say why a file cannot be one of ``torch.save``, from its first bytes or its records; None if it may be one."""
    with open(path, 'rb') as file:
        begin = file.read(256)
    if not begin:
        return 'it is empty (0 bytes)'
    if begin.lstrip()[:1] == b'<':
        return 'it is a web page; download the file itself'
    if begin.startswith(b'version https://git-lfs'):
        return 'it is a pointer of Git LFS; fetch the file by "git lfs pull"'
    if begin.startswith(b'\x1f\x8b'):
        return 'it is compressed by gzip; unpack it first'
    if begin[8:9] == b'{' and int.from_bytes(begin[:8], 'little') < os.path.getsize(path):
        return 'it is a safetensors file; let its name end in .safetensors'
    return _reason_in_zip(path) if begin.startswith(b'PK\x03\x04') else None


def _reason_in_zip(path: str | Path) -> str | None:
    try:
        with zipfile.ZipFile(path) as file:
            names = [record.filename.rpartition('/')[2] for record in file.infolist()]
            size = sum(record.file_size for record in file.infolist())
    except Exception:  # torch reports damage
        return None
    if 'constants.pkl' in names:
        return 'it is a TorchScript archive, a program; save the state_dict() of its model by torch.save'
    if 'data.pkl' not in names:
        return f'it is a zip archive of other things ({", ".join(names[:3])})'
    if size > GROWTH * os.path.getsize(path) + ALLOWANCE:
        return f'its {os.path.getsize(path)} bytes would unpack to {size}'
    return None


def _has_no_checksums(file: zipfile.ZipFile) -> bool:
    """Tell whether torch was asked to leave checksums out (``set_crc32_options(False)``), and wrote zeros."""
    return not any(record.CRC for record in file.infolist())
