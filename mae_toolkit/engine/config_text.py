"""A config that caches its text: MMEngine asks for it several times at the start of a run, and at each checkpoint."""

from mmengine.config import Config


class CachedTextConfig(Config):
    """A config that formats its text again only after a value has changed: yapf takes half a second for it."""

    @classmethod
    def from_config(cls, cfg: Config) -> 'CachedTextConfig':
        """Make one that shares the values of another config."""
        cached = cls()
        cached.__setstate__(cfg.__getstate__())
        return cached

    @property
    def pretty_text(self) -> str:
        """The text of the values, formatted by yapf."""
        values = repr(self.to_dict())
        known, text = self.__dict__.get('_cached_text', ('', ''))
        if known != values:
            text = super().pretty_text
            object.__setattr__(self, '_cached_text', (values, text))  # Config.__setattr__ would make it a value
        return text
