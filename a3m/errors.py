"""Errors that a user can mend: one message that names the file, line or setting and the remedy."""


class UserError(Exception):
    """Something outside the program is wrong. The command prints the message alone, without a traceback, and exits with `code`."""

    code = 1


class DataError(UserError):
    """A data set, an annotation file, an image or a pack is not what it should be. Never retried by itself."""


class SettingsError(UserError):
    """A setting is unknown, of the wrong type, or contradicts another."""

    code = 2


class StoreError(UserError):
    """The MLflow store, the state folder or the results cannot be read or written."""


class TrainingError(UserError):
    """Training failed for a reason that would come again, such as a loss that is not a number."""


class InterruptedByUser(UserError):
    """Ctrl-C: what was finished is kept, and the same command goes on."""

    code = 130
