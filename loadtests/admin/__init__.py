"""The load lab at the operator's desk."""

from loadtests.admin import comparisons, runs

__all__ = ["comparisons", "runs"]
