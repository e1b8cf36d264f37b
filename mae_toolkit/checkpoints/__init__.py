"""Weights in files: reading them safely, naming them, and loading them with every key accounted for."""
