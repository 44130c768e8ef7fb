"""Exit status of the program; part of its interface, for scripts."""

from enum import IntEnum


class ExitCode(IntEnum):
    """What a script learns from the exit status alone."""

    OK = 0
    FAILED = 1
    """The user's input, a peer, the log or the disk: the message says which and what to do."""
    USAGE = 2
    """Unknown command or option; nothing was started."""
    OTHER_ENVIRONMENT = 3
    """A replay cannot demand equal bits here; ``--tolerant`` measures the deviation instead."""
    DIFFERS = 4
    """A broker is not as the topology says; ``topology apply`` changes that."""
    BUG = 70
    """An error that slstream did not foresee (EX_SOFTWARE of sysexits.h)."""
    INTERRUPTED = 130
    """SIGINT, SIGTERM or SIGHUP; the log of what was done is kept."""
