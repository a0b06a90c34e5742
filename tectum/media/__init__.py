"""Bytes to tensors and back: pictures, sounds and text. Import the module you need; nothing heavy is loaded here."""
