"""The two errors a user can meet. Both print as one sentence: the value, the cause, and the mend."""


class UserError(Exception):
    """Something the user gave cannot be used. Raised before anything on disk is touched."""


class EnvironmentFailure(RuntimeError):
    """An environment raised, or returned what it must not. Names the environment, the row, the step and the key."""
