"""A stand-in Flagsmith and a strict stand-in Heap: the two ends of the path, without an account at either."""
