"""The cache of Hugging Face, as its programs write it: a file is named by its content, and links have its name."""

import hashlib
import os

REVISION = '0123456789abcdef0123456789abcdef01234567'


def put_into_cache(cache, repository, file, content=b''):
    """Put a file of a repository into a cache; return its path there, which is a link."""
    place = cache / f'models--{repository.replace("/", "--")}'
    for folder in ('refs', 'blobs', f'snapshots/{REVISION}'):
        (place / folder).mkdir(parents=True, exist_ok=True)
    (place / 'refs' / 'main').write_text(REVISION)
    blob = place / 'blobs' / hashlib.sha256(content).hexdigest()
    blob.write_bytes(content)
    path = place / 'snapshots' / REVISION / file
    path.symlink_to(os.path.relpath(blob, path.parent))
    return path
