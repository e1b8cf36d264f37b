"""Measure speed, memory and floating-point operations: what tools/benchmark.py does."""
