"""What all tests share."""

from hypothesis import settings

# A busy machine makes single examples slow; a time limit on them would only test the machine.
settings.register_profile("tectum", deadline=None)
settings.load_profile("tectum")
