"""Packages of the distribution: `agents/` and `conf/` are installed inside `sana_wm_gym`."""

from setuptools import find_packages, setup

PACKAGE = "sana_wm_gym"
BESIDE = ("agents", "conf")

inside = find_packages(include=[f"{PACKAGE}*"])
beside = [f"{PACKAGE}.{name}" for name in find_packages(include=[f"{name}*" for name in BESIDE])]
setup(
    packages=inside + beside,
    package_dir={f"{PACKAGE}.{name}": name for name in BESIDE},
)
