"""Building data sets of TensorFlow Datasets: the one thing here that takes TensorFlow."""

import hashlib
import importlib.util
import os
import shutil
import socket
import tempfile
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from train.data import tfds
from train.errors import AGAIN, UserError
from train.whole import locked, write_whole

# Seconds to wait for an answer before a host counts as out of reach.
_PATIENCE = 5.0
_PORTS = {"http": 80, "https": 443, "ftp": 21}


def build(name: str, data_dir: Path, manual_dir: Path | None) -> str:
    """Build NAME[/CONFIG][:VERSION] as array_record files, which can be read without TensorFlow.

    A set that is there in TFRecord files, as TensorFlow Datasets writes them by default, gets array_record files beside
    them.

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
        _require_tensorflow(name)
        if manual_dir is None:
            _reach(name, known)
        known.data_path.parent.mkdir(parents=True, exist_ok=True)
        with locked(
            Path(known.data_path.parent), f"tfds:{name}: another process builds it in {data_dir}; wait for its end"
        ):
            for left in known.data_path.parent.glob(f"incomplete.*_{known.data_path.name}"):
                shutil.rmtree(left)  # of a build that was killed
            _download_and_prepare(name, known, data_dir, manual_dir)
        known = tfds.builder(name, data_dir)
    elif tfds.formats(known) == {"tfrecord"}:
        _require_tensorflow(name)
        with locked(
            Path(known.data_path), f"tfds:{name}: another process adds files to it in {data_dir}; wait for its end"
        ):
            _add_array_record(name, known)
        known = tfds.builder(name, data_dir)
    tfds.require_array_record(name, known, data_dir)
    counts = ", ".join(f"{about.num_examples:,} {split}" for split, about in known.info.splits.items())
    return f"{known.data_path}: {known.info.full_name}, {counts}"


def _require_tensorflow(name: str) -> None:
    if importlib.util.find_spec("tensorflow") is None:
        raise UserError(
            f'tfds:{name}: building it takes TensorFlow, which reading it does not; pip install -e ".[prepare]"'
        )


def _hold_files_against(name: str, builder: Any, manual_dir: Path) -> None:
    """Compare the files with what TFDS knows of them: left to itself, it would try to download what is missing."""
    if not manual_dir.is_dir():
        raise UserError(f"--manual_dir={manual_dir}: there is no such folder; name the one with the set's files")
    known = builder.url_infos or {}  # some sets have none
    wanted = {info.filename or Path(urlsplit(url).path).name: (url, info) for url, info in known.items()}
    missing = {file for file in wanted if not (manual_dir / file).is_file()}
    # TFDS knows the files of all configurations of a set together, so of those one is enough.
    if missing and (builder.builder_config is None or missing == wanted.keys()):
        files = "; ".join(f"{file} ({wanted[file][0]})" for file in sorted(missing))
        raise UserError(f"tfds:{name}: {manual_dir} lacks {files}; put them there")
    for file, (_, info) in wanted.items():
        if file in missing:
            continue
        with (manual_dir / file).open("rb") as stream:
            checksum = hashlib.file_digest(stream, "sha256").hexdigest()
        if checksum != info.checksum:
            raise UserError(
                f"{manual_dir / file}: is not the file that tfds:{name} is made of (SHA-256 {checksum[:12]}..., "
                f"should be {info.checksum[:12]}...); bring that"
            )


def _reach(name: str, builder: Any) -> None:
    """Ask each host for a connection: TFDS would try each file again and again for minutes."""
    if any(os.environ.get(key) for key in ("https_proxy", "HTTPS_PROXY", "http_proxy")):
        return  # the proxy resolves names, not we
    known = builder.url_infos or {}
    hosts = {(parts.hostname, parts.port or _PORTS[parts.scheme]) for parts in map(urlsplit, known) if parts.hostname}
    for host, port in sorted(hosts):
        try:
            socket.create_connection((host, port), timeout=_PATIENCE).close()
        except OSError as error:
            files = sorted(info.filename or url for url, info in known.items())
            raise UserError(
                f"tfds:{name}: {host} cannot be reached ({error}); bring {', '.join(files)} in a folder and "
                "name it with --manual_dir"
            ) from error


def _add_array_record(name: str, prepared: Any) -> None:
    """Write the records of each TFRecord file into an array_record file, and then say so in the set's info.

    TFDS's own conversion does the same but takes Apache Beam.
    """
    info = prepared.info
    for split in info.splits.values():
        places = split.filename_template.replace(filetype_suffix="array_record").sharded_filepaths(split.num_shards)
        for source, place, count in zip(split.filepaths, sorted(places), split.shard_lengths, strict=True):
            draft = Path(f"{place}.incomplete")
            try:
                written = _copy_records(Path(source), draft)
                if written != count:
                    raise UserError(f"{source}: holds {written:,} records, should hold {count:,}; build it again")
                draft.replace(place)
            finally:
                draft.unlink(missing_ok=True)
    info.add_alternative_file_format("array_record")  # last: until now the set is what it was
    with tempfile.TemporaryDirectory() as folder:
        info.write_dataset_info_json(folder)
        (made,) = Path(folder).iterdir()
        write_whole(Path(prepared.data_path, made.name), made.read_bytes())


def _copy_records(source: Path, place: Path) -> int:
    """Copy the records of a TFRecord file as they are; return how many."""
    import tensorflow
    from array_record.python.array_record_module import ArrayRecordWriter

    # Groups of one record, without which records cannot be read at random.
    writer, written = ArrayRecordWriter(str(place), "group_size:1"), 0
    try:
        for record in tensorflow.data.TFRecordDataset(str(source)).as_numpy_iterator():
            writer.write(record)
            written += 1
        writer.close()
    except tensorflow.errors.OpError as error:
        raise UserError(f"{source}: cannot be read as a TFRecord file ({error.message}); build it again") from error
    except (RuntimeError, OSError) as error:  # of the writer
        raise UserError(f"{place}: cannot be written ({error}); make room or mend the folder, and {AGAIN}") from error
    return written


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
        raise UserError(
            f"tfds:{name}: could not be built ({type(error).__name__}: {reason}); mend that, and {AGAIN}"
        ) from error
    shutil.rmtree(own / "extracted", ignore_errors=True)
