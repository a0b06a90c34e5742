"""Floor 1: diffusion and flows as one process, one denoiser and a handful of solvers, all pure functions of tensors."""
