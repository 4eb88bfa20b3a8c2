"""Building data sets of TensorFlow Datasets: the one thing here that takes TensorFlow."""

import hashlib
import importlib.util
import os
import shutil
import socket
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from train.data import tfds
from train.errors import UserError

# Seconds to wait for an answer before a host counts as out of reach.
_PATIENCE = 5.0


def build(name: str, data_dir: Path, manual_dir: Path | None) -> str:
    """Build NAME[/CONFIG][:VERSION] as array_record files, which can be read without TensorFlow.

    Args:
      name: of the set.
      data_dir: folder of prepared sets; the set gets a folder in it.
      manual_dir: holds the files that the set is made of, under the names that their authors gave them. Nothing is
        downloaded then.

    Returns:
      What to say: where the set is, and how many images its splits have.

    Raises:
      UserError: there is no such set, a file is missing or not what it should be, or TensorFlow is not installed.
    """
    known = tfds.builder(name, data_dir)
    if not known.is_prepared():
        if manual_dir is not None:
            _hold_files_against(name, known, manual_dir)
        if importlib.util.find_spec("tensorflow") is None:
            raise UserError(
                f'tfds:{name}: building it takes TensorFlow, which reading it does not; pip install -e ".[prepare]"'
            )
        if manual_dir is None:
            _reach(name, known)
        _download_and_prepare(name, known, data_dir, manual_dir)
        known = tfds.builder(name, data_dir)
    counts = ", ".join(f"{about.num_examples:,} {split}" for split, about in known.info.splits.items())
    return f"{known.data_path}: {known.info.full_name}, {counts}"


def _hold_files_against(name: str, builder: Any, manual_dir: Path) -> None:
    """Compare the files with what TFDS knows of them: left to itself, it would try to download what is missing."""
    if not manual_dir.is_dir():
        raise UserError(f"--manual_dir={manual_dir}: there is no such folder")
    wanted = {info.filename or Path(urlsplit(url).path).name: (url, info) for url, info in builder.url_infos.items()}
    if missing := [f"{file} ({url})" for file, (url, _) in wanted.items() if not (manual_dir / file).is_file()]:
        raise UserError(f"tfds:{name}: {manual_dir} lacks {'; '.join(sorted(missing))}")
    for file, (_, info) in wanted.items():
        with (manual_dir / file).open("rb") as stream:
            checksum = hashlib.file_digest(stream, "sha256").hexdigest()
        if checksum != info.checksum:
            raise UserError(
                f"{manual_dir / file}: is not the file that tfds:{name} is made of (SHA-256 {checksum[:12]}..., "
                f"should be {info.checksum[:12]}...)"
            )


def _reach(name: str, builder: Any) -> None:
    """Ask each host for a connection: TFDS would try each file again and again for minutes."""
    for url in builder.url_infos:
        parts = urlsplit(url)
        port = parts.port or (80 if parts.scheme == "http" else 443)
        if parts.hostname is None or any(os.environ.get(key) for key in ("https_proxy", "HTTPS_PROXY", "http_proxy")):
            continue  # the proxy resolves names, not we
        try:
            socket.create_connection((parts.hostname, port), timeout=_PATIENCE).close()
        except OSError as error:
            files = sorted(info.filename or key for key, info in builder.url_infos.items())
            raise UserError(
                f"tfds:{name}: {parts.hostname} cannot be reached ({error}); bring {', '.join(files)} in a folder and "
                "name it with --manual_dir"
            ) from error


def _download_and_prepare(name: str, known: Any, data_dir: Path, manual_dir: Path | None) -> None:
    import tensorflow_datasets

    # Each set has folders of its own: MNIST's and Fashion-MNIST's files have the same names, and TFDS takes an
    # extracted file for the one it wants by its name alone.
    own = data_dir / "downloads" / known.info.full_name.replace("/", "-")
    config = tensorflow_datasets.download.DownloadConfig(
        manual_dir=manual_dir, extract_dir=own / "extracted", try_download_gcs=False
    )
    builder = tensorflow_datasets.builder(name, data_dir=data_dir, file_format="array_record")
    try:
        builder.download_and_prepare(download_dir=own, download_config=config)
    except AssertionError as error:  # of sets whose authors want their terms read: says which files to get where
        raise UserError(f"tfds:{name}: {' '.join(str(error).split())}") from error
    except Exception as error:  # whatever a download or a damaged archive makes TFDS raise
        reason = next((line for line in str(error).splitlines() if line.strip()), type(error).__name__)
        raise UserError(f"tfds:{name}: could not be built ({type(error).__name__}: {reason})") from error
    shutil.rmtree(own / "extracted", ignore_errors=True)
