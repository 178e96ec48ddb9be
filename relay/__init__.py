"""A relay between Flagsmith and Heap: forwards flag calls untouched, tells Heap what was decided."""

__version__ = "0.1.0"
