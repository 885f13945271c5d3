"""Functions that pools are asked to run. In a module of their own, so that a worker that was not forked can import
them."""


def square(x: int) -> int:
    """The smallest task there is: what a pool costs is all that is seen."""
    return x * x


def nothing() -> None:
    """For processes of which only start and end are of interest."""
