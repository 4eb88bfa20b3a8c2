"""Licences of the lock's packages: `python -m tests.licenses > docs/licenses.md`, where all are installed."""

import configparser
import re
import sys
from collections.abc import Iterator
from importlib import metadata
from pathlib import Path

from packaging.requirements import Requirement

CHECKOUT = Path(__file__).resolve().parent.parent

# Of what its metadata does not say, or says wrongly; each read in the file that the package brings.
_READ = {
    "matplotlib": "Matplotlib's, after the Python Software Foundation's",
    "namex": "Apache-2.0",
    "onednn-cpu-gomp": "Apache-2.0",  # the classifier says "Other/Proprietary"
    "onednn-devel-cpu-gomp": "Apache-2.0",
}
_SHORT = (
    ("Apache", "Apache-2.0"),
    ("Mozilla Public License 2.0", "MPL-2.0"),
    ("3-Clause BSD", "BSD-3-Clause"),
    ("BSD 3-Clause", "BSD-3-Clause"),
    ("BSD License", "BSD"),
    ("ISC", "ISC"),
    ("MIT License", "MIT"),
)

_HEAD = """# Licences of what is installed

oldmasters is under the Apache License 2.0 (`LICENSE`). It distributes none of these packages: `pip` fetches them. The
list is of the versions that `.ci/constraints.txt` names, and made from what each package says of itself
(`python -m tests.licenses > docs/licenses.md`); tests hold it against both. Direct means that `setup.cfg` asks for it:
`base` always, otherwise by `pip install -e ".[EXTRA]"`; the others are needed by those, or by the tests alone.

None has a licence that forbids use beside Apache-2.0, or asks the same licence of what stands beside it (GPL, AGPL,
SSPL, non-commercial). MPL-2.0 asks that changes of its own files be published. Wheels also hold libraries of others
(libjpeg-turbo, OpenBLAS, HDF5 and the like); their licences lie in each package's `.dist-info`.

Not in the list, for none of it is a package of the lock:

- `[cuda]` brings NVIDIA's CUDA, cuDNN and NCCL, `[tpu]` brings Google's libtpu: closed, under terms of their own, as
  are the CUDA libraries that some indices bring with PyTorch (`[bench]`).
- A C++ compiler (GCC: GPL-3.0 with an exception for what it compiles), where there is one, builds `train/onednn/*.cc`
  and `train/data/resample.cc` for that machine alone. oneDNN runs on GCC's libgomp, under the same exception.
- WordNet 3.0 (Debian's `wordnet-base`; Princeton's own licence, which asks for its notice) is read where it lies.
- The embedded digits come with scikit-learn; they are UCI's (CC BY 4.0). No other data and no weights of others are
  distributed: ImageNet, Tiny ImageNet, CIFAR-10 and published weights have terms of their own.

| package | version | licence | direct |
|---|---|---|---|
"""


def lock() -> dict[str, str]:
    """Return the version of each package of .ci/constraints.txt, by its name there."""
    lines = (CHECKOUT / ".ci/constraints.txt").read_text().splitlines()
    return dict(line.split("==") for line in lines if not line.startswith("#"))


def direct() -> Iterator[tuple[str, Requirement]]:
    """Yield what setup.cfg asks for, each with `base` or its extra; those of oldmasters itself are left out."""
    setup = configparser.ConfigParser()
    setup.read(CHECKOUT / "setup.cfg")
    for extra, lines in {"base": setup["options"]["install_requires"], **setup["options.extras_require"]}.items():
        for line in lines.split("\n"):
            if line and not line.startswith("oldmasters["):
                yield extra, Requirement(line)


def normal(name: str) -> str:
    """Return a package's name as all spellings of it are compared."""
    return re.sub(r"[-_.]+", "-", name).lower()


def license_of(package: metadata.PackageMetadata) -> str:
    """Return what a package says its licence is, in SPDX's words where they are plain."""
    if known := _READ.get(normal(package["Name"])):
        return known
    if expression := package.get("License-Expression"):
        return expression
    said = [
        line.rpartition(" :: ")[2] for line in package.get_all("Classifier") or () if line.startswith("License :: ")
    ]
    text = (package.get("License") or "").strip().partition("\n")[0]
    if " AND " in text or " OR " in text:
        return text
    if not said or (said[0] in ("BSD License", "OSI Approved") and text.startswith("BSD")):
        said = [text]  # which says which of them
    return " OR ".join(next((short for long, short in _SHORT if long in words), words) for words in said)


def document() -> str:
    """Return docs/licenses.md, from the packages that are installed."""
    asked: dict[str, list[str]] = {}
    for extra, requirement in direct():
        asked.setdefault(normal(requirement.name), []).append(extra)
    rows = [
        f"| {name} | {version} | {license_of(metadata.metadata(name))} | {', '.join(asked.get(normal(name), []))} |\n"
        for name, version in sorted(lock().items(), key=lambda pair: normal(pair[0]))
    ]
    return _HEAD + "".join(rows)


if __name__ == "__main__":
    sys.stdout.write(document())
