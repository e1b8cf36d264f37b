"""Text files in any Unicode encoding."""

from __future__ import annotations

import codecs
import re
from pathlib import Path

from mae_toolkit.errors import UserError
from mae_toolkit.printing import printable

# Encodings by byte order mark. UTF-32 first: its little-endian mark begins with that of UTF-16.
BYTE_ORDER_MARKS = {
    codecs.BOM_UTF32_LE: 'utf-32',
    codecs.BOM_UTF32_BE: 'utf-32',
    codecs.BOM_UTF16_LE: 'utf-16',
    codecs.BOM_UTF16_BE: 'utf-16',
}


def detect_wide_encoding(data: bytes) -> str | None:
    """Return ``'utf-16'`` or ``'utf-32'`` if data begins with a byte order mark of one of them, else None."""
    return next((name for mark, name in BYTE_ORDER_MARKS.items() if data.startswith(mark)), None)


def read_text_file(path: str | Path) -> str:
    """Read a text file in the encoding of its byte order mark, or in UTF-8 if it has none.

    Bytes that are not UTF-8, as file names may have, become surrogates that ``os.fsencode`` turns into the same bytes.

    Raises:
        UserError: If it is not text.
    """
    data = Path(path).read_bytes()
    encoding = detect_wide_encoding(data)
    try:
        text = data.decode(encoding) if encoding else data.decode('utf-8-sig', 'surrogateescape')
    except UnicodeDecodeError as error:
        raise UserError(f'{path} cannot be read as {encoding} ({error.reason}): save it as UTF-8.') from None
    if '\0' in text:
        raise UserError(
            f'{path} is not a text file: it contains zero bytes, as UTF-16 without a byte order mark and binary files '
            'do; save it as UTF-8.'
        )
    return text


def read_label_file(path: str | Path) -> str:
    """Read a text file of labels, in the encoding of its byte order mark or in UTF-8.

    Any other encoding would have to be guessed, and a wrong guess would garble the names of classes.

    Raises:
        UserError: If it is in another encoding, with the first line that is not UTF-8.
    """
    text = read_text_file(path)
    for number, line in enumerate(text.splitlines(), 1):
        if re.search('[\udc80-\udcff]', line):
            raise UserError(
                f'{printable(path)} is not in UTF-8: line {number} is {printable(line)!s:.80}. Save it as UTF-8, as by '
                'iconv -f LATIN1 -t UTF-8.'
            )
    return text
