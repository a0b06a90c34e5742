"""Floor 1: losses over embeddings, pure functions of tensors."""
