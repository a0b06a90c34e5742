"""What all tests share."""

import signal

from hypothesis import settings

# A busy machine makes single examples slow; a time limit on them would only test the machine.
settings.register_profile("tectum", deadline=None)
settings.load_profile("tectum")


def pytest_configure() -> None:
    """Processes that the tests start can be interrupted, also where the tests run in the background of a script."""
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)
