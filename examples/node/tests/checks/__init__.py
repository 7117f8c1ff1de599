"""The checks of `namespaces`, in the order in which they are run.

A check is a function whose name says what holds. It gets a `Lab` of its own, raises `Failure` if that
does not hold, and `Skip` where it cannot be found out.
"""

from importlib import import_module

MODULES = ["reach", "tools", "keys", "roaming", "marks", "secrecy", "life", "errors", "hostile", "long"]
CHECKS = {}
BESIDE = set()


def check(function):
    """Registers a check that is run by itself."""
    CHECKS[function.__name__] = function
    return function


def beside(function):
    """Registers a check that takes long and little, and is run beside all the others."""
    BESIDE.add(function.__name__)
    return check(function)


def load():
    for module in MODULES:
        import_module(f"checks.{module}")
    return CHECKS
