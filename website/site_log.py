"""The log of the site; a warning in it fails ``mkdocs build --strict``."""

import logging

log = logging.getLogger('mkdocs.hooks.website')
