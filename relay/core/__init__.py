"""What is decided, never done: plain values and `now` in, values with reasons out.

Nothing here reads a clock, a socket, a file or a random number, and nothing here logs.
"""
