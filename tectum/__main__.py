"""`python -m tectum` is the `tectum` command."""

import sys

from tectum.cli.main import main

if __name__ == "__main__":
    sys.exit(main())
