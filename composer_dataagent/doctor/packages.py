# Copyright 2026 composer_dataagent authors
# SPDX-License-Identifier: Apache-2.0
"""Are the packages there that this one needs, in versions that it was tried with?"""

from __future__ import annotations

import importlib
import sys
from collections.abc import Iterator
from importlib import metadata

from packaging.requirements import Requirement

from composer_dataagent.doctor.finding import Finding
from composer_dataagent.version import __version__

NAME = "composer-dataagent"
# Name of the distribution to that of the module; those that are compiled, and may not load.
_COMPILED = {
    "torch": "torch",
    "torchvision": "torchvision",
    "numpy": "numpy",
    "mosaicml": "composer",
    "mosaicml-streaming": "streaming",
    "obstore": "obstore",
}
# For work on this package, not for users.
_FOR_DEVELOPERS = {"dev", "test"}


def check_packages() -> list[Finding]:
    """What is installed, against what this package asks for."""
    python = ".".join(map(str, sys.version_info[:3]))
    found = [Finding("good", f"{NAME} {__version__}, Python {python}")]
    required = _requirements()
    wrong = [finding for each in required.get("", []) if (finding := _missing(each))]
    found += wrong or [Finding("good", f"{len(required.get('', []))} required packages")]
    found += [finding for name, module in _COMPILED.items() for finding in _load(name, module)]
    for extra, requirements in sorted(required.items()):
        if extra and extra not in _FOR_DEVELOPERS:
            absent = sorted(each.name for each in requirements if _missing(each))
            if absent:
                advice = f"if you need it: pip install '{NAME}[{extra}]'"
                found.append(Finding("note", f"extra {extra}: no {', '.join(absent)}", advice))
            else:
                found.append(Finding("good", f"extra {extra}"))
    return found


def _requirements() -> dict[str, list[Requirement]]:
    """By extra; what is needed in any case has none."""
    found: dict[str, list[Requirement]] = {}
    extras = ["", *(metadata.metadata(NAME).get_all("Provides-Extra") or [])]
    for requirement in map(Requirement, metadata.requires(NAME) or []):
        marker = requirement.marker
        extra = next((e for e in extras if marker is None or marker.evaluate({"extra": e})), None)
        if extra is not None and requirement.name != NAME:
            found.setdefault(extra, []).append(requirement)
    return found


def _missing(requirement: Requirement) -> Finding | None:
    """What is wrong with a package, if anything is."""
    wanted = f"{requirement.name}{requirement.specifier}"
    try:
        version = metadata.version(requirement.name)
    except metadata.PackageNotFoundError:
        return Finding("bad", f"{requirement.name} is not installed", f"pip install '{wanted}'")
    # Builds for a CUDA version, say, have a local part, such as 2.7.0+cu126.
    if requirement.specifier.contains(version.split("+")[0], prereleases=True):
        return None
    return Finding(
        "bad",
        f"{requirement.name} {version} is installed, but {requirement.specifier} is needed",
        f"pip install '{wanted}'",
    )


def _load(name: str, module: str) -> Iterator[Finding]:
    try:
        version = metadata.version(name)
    except metadata.PackageNotFoundError:
        return  # told before
    try:
        importlib.import_module(module)
    except Exception as error:  # a broken build raises anything
        reason = f"{type(error).__name__}: {error}".splitlines()[0]
        yield Finding(
            "bad",
            f"{name} {version} cannot be imported ({reason})",
            f"install it again, in a new environment: pip install '{NAME}=={__version__}'",
        )
    else:
        yield Finding("good", f"{name} {version}")
