"""Mistakes a user can mend, each told in one sentence: what, where, and how to mend it.

The command line prints the sentence and exits with 2; a library caller catches `TectumError`.
"""


class TectumError(Exception):
    """Base of every error that a user can mend."""


class MediaError(TectumError):
    """A file or object that is not the picture, sound or text it should be.

    `reason` groups such errors when they are counted: one of "broken", "huge", "empty", "mislabelled", "unsupported",
    "unreadable".

    >>> MediaError("a.jpg is empty: restore it from a copy", reason="empty").reason
    'empty'
    """

    def __init__(self, message: str, reason: str = "broken") -> None:
        super().__init__(message)
        self.reason = reason


class CheckpointError(TectumError):
    """A model folder that is missing, incomplete or contradicts itself."""


class ConfigError(TectumError):
    """An option whose name or value does not fit."""


class DataError(TectumError):
    """A dataset that cannot be read as asked."""


class StoreError(TectumError):
    """A vector store that cannot do what was asked."""


class LibraryError(TectumError):
    """A media library that is missing, locked or made with another model."""


class EvaluationError(TectumError):
    """Results, references or features that cannot be scored together."""


class PassportError(EvaluationError):
    """Two scores that were made in different ways."""
