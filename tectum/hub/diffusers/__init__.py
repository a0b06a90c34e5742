"""The layouts of Hugging Face diffusers: networks, schedulers and whole folders, both ways."""
