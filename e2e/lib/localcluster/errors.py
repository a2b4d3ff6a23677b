"""The one error that ends a command with a sentence instead of a traceback. Defines nothing else."""


class ClusterError(Exception):
    """A sentence for a person: what was found, what was expected, what to do next."""
