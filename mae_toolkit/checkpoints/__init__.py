"""Weights in files: reading them safely, translating their names, and loading them with every key accounted for.

``files`` reads a checkpoint of any origin (with ``safe_files``, ``zip_files`` and ``plain_values``, which execute no
code from it), ``containers`` finds the weights in it, and ``checks`` refuses what no model can use. ``translate`` puts
them under our names by the formats in ``names``, ``load`` loads them into a model and reports every key (with
``positions``, which resizes tables of positions), and ``encoder`` loads an encoder alone. ``protocols`` has the types
of the models, which nothing here imports.
"""
