"""The text of a config, which MMEngine asks for several times at the start of a run and again for each checkpoint."""

from mmengine.config import Config


class OnceLaidOutConfig(Config):
    """A config whose text is laid out once, as long as its values stay: yapf takes half a second for it."""

    @classmethod
    def from_config(cls, cfg: Config) -> 'OnceLaidOutConfig':
        """Make one with the values of another config, which it shares."""
        once = cls()
        once.__setstate__(cfg.__getstate__())
        return once

    @property
    def pretty_text(self) -> str:
        """The text of the values, laid out by yapf."""
        values = repr(self.to_dict())
        known, text = self.__dict__.get('_laid_out', ('', ''))
        if known != values:
            text = super().pretty_text
            object.__setattr__(self, '_laid_out', (values, text))  # any other way it would be one of the values
        return text
