"""What to do where a library of sluice.ml is not installed."""

from sluice.version import DISTRIBUTION


def missing(module: str, error: ModuleNotFoundError) -> ModuleNotFoundError:
    """The error to raise instead: it names our module, the library, and how to install it."""
    return ModuleNotFoundError(
        f"{module} needs {error.name}: list it in the function's requirements.txt, or elsewhere"
        f" pip install '{DISTRIBUTION}[ml]'",
        name=error.name,
    )
