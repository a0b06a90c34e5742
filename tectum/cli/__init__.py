"""Floor 4: the `tectum` command, one file for each group of sub-commands."""
