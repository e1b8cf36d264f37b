"""Layers that several encoders and decoders share."""
