"""Floor 0: layers over tensors, free of files, devices and global state.

Shape letters used here: n batch, s sequence, w width, h heads, c channels, d embedding.
"""
