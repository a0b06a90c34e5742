"""Steps from one point of a grid to the next: `(state, denoiser, here, there) -> state`."""
