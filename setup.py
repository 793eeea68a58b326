"""The packages of a wheel: vilg, and the experiments as vilg.experiments.

All else is in pyproject.toml, which cannot name the packages that it finds and a directory of
another name at once."""

from setuptools import find_packages, setup

EXPERIMENTS = ["vilg.experiments", "vilg.experiments.ablations"]

setup(
    packages=[*find_packages(include=["vilg", "vilg.*"]), *EXPERIMENTS],
    package_dir={"vilg.experiments": "experiments"},
)
