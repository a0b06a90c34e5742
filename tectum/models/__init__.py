"""Floor 2: the systems, each a short composition of the layers and losses below."""
