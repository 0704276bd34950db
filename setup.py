"""Package discovery: a list in setup.cfg would silently miss a new subpackage in the wheel."""

from setuptools import find_packages, setup

setup(
    packages=find_packages("platform", include=["pingvas*"])
    + find_packages(".", include=["tasks*", "gpu_worker*"])
)
