"""Fuzz a reader, guided by what code the inputs reach.

    pip install atheris
    python -m tests.fuzz TARGET [--seconds=600] [--output=FOLDER]

Atheris (libFuzzer) changes files and keeps those that reach something new. A fault is any exception but UserError,
more than 2 GB of memory, or an input that takes over 5 s of computing (or 50 s in all). Each kind is kept once, as a
file that the target takes, and with its traceback. At the end stand the executions, features, the slowest input and
the most memory; with a fault the status is 1. What atheris has kept is in FOLDER/corpus, and the next call goes on
with it.
"""

import argparse
import hashlib
import json
import re
import resource
import subprocess
import sys
import tempfile
import time
import traceback
from collections.abc import Iterator
from pathlib import Path
from typing import Any

MEMORY, SECONDS = 2048, 5  # MB and s that an input may take
_INSTRUMENTED = ["train", "models", "PIL", "zipfile", "pickletools", "tomllib", "gzip", "ml_collections"]


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("target")
    parser.add_argument("--seconds", type=int, default=600)
    parser.add_argument("--output", type=Path)
    parser.add_argument("--within", action="store_true", help="(the process that is fuzzed)")
    flags = parser.parse_args()
    output = flags.output or Path(tempfile.mkdtemp(prefix=f"fuzz-{flags.target}-"))
    (output / "corpus").mkdir(parents=True, exist_ok=True)
    if flags.within:
        _fuzz(flags.target, output, flags.seconds)
    return _again_and_again(flags.target, output, flags.seconds)


def _again_and_again(target: str, output: Path, seconds: int) -> int:
    """Run the process that is fuzzed until the time is over: an input that takes too long or too much ends it."""
    end, executions, features, deaths = time.monotonic() + seconds, 0, 0, 0
    while (left := round(end - time.monotonic())) > 0:
        command = [sys.executable, "-m", "tests.fuzz", target, "--within", f"--seconds={left}", f"--output={output}"]
        process = subprocess.run(command, stderr=subprocess.PIPE, text=True, errors="replace")
        (output / f"log-{deaths}.txt").write_text(process.stderr)
        counts = [int(count) for count in re.findall(r"^#(\d+)", process.stderr, re.MULTILINE)]
        executions += max(counts, default=0)
        features = max(map(int, re.findall(r"ft: (\d+)", process.stderr)), default=features)
        if not process.returncode:
            break
        deaths += 1
        if deaths > 20 or not re.search("INITED", process.stderr):
            print(process.stderr[-2000:])
            break
    kinds = ("fault-", "oom-", "timeout-", "crash-")
    faults = sorted(path for path in output.iterdir() if path.name.startswith(kinds) and path.suffix != ".txt")
    measured = json.loads((output / "measured.json").read_text()) if (output / "measured.json").exists() else {}
    print(
        f"{target}: {executions:,} executions, {features:,} features, {len(list((output / 'corpus').iterdir())):,} in "
        f"the corpus, slowest {measured.get('slowest', 0):.2f} s, {measured.get('peak', 0):,} MB; "
        f"{len(faults)} faults in {output}"
    )
    for fault in faults:
        print(f"  {fault.name}")
    return bool(faults) or not executions


def _fuzz(name: str, output: Path, seconds: int) -> None:
    import atheris

    with atheris.instrument_imports(include=_INSTRUMENTED):
        from tests.fuzz.targets import TARGETS
        from train.errors import UserError
    target = TARGETS[name]()
    for seed in target.seeds:
        (output / "corpus" / hashlib.sha256(seed).hexdigest()[:16]).write_bytes(seed)
    limited = _virtual() + (MEMORY << 20)
    resource.setrlimit(resource.RLIMIT_AS, (limited, limited))
    measured = {"slowest": 0.0, "peak": 0}

    def keep(data: bytes, error: BaseException) -> None:
        """Write an input and its traceback down, the first time that something fails in this place."""
        last = traceback.extract_tb(error.__traceback__)[-1]
        ours = [frame for frame in traceback.extract_tb(error.__traceback__) if "/train/" in frame.filename]
        place = ours[-1] if ours else last
        kind = f"fault-{type(error).__name__}-{Path(place.filename).stem}-{place.lineno}"
        if not (output / kind).exists():
            (output / kind).write_bytes(data)
            (output / f"{kind}.txt").write_text("".join(traceback.format_exception(error)), errors="replace")

    def causes(error: BaseException | None) -> Iterator[BaseException]:
        while error is not None:
            yield error
            error = error.__cause__ or error.__context__

    def once(data: bytes) -> None:
        with tempfile.TemporaryDirectory(dir=output) as folder:
            start = time.process_time()
            try:
                target.read(data, Path(folder))
            except UserError as error:
                if "more than the memory" in str(error) or any(isinstance(one, MemoryError) for one in causes(error)):
                    keep(data, error)
            except Exception as error:
                keep(data, error)
        took = time.process_time() - start
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss >> 10
        if took > max(measured["slowest"], 0.05):
            (output / ("slowest" if took < SECONDS else "fault-slow")).write_bytes(data)
        if took > measured["slowest"] or peak > measured["peak"] + 10:
            measured.update(slowest=max(took, measured["slowest"]), peak=max(peak, measured["peak"]))
            (output / "measured.json").write_text(json.dumps(measured))

    options: dict[str, Any] = {"max_total_time": seconds, "timeout": 10 * SECONDS, "rss_limit_mb": 0, "max_len": 65536}
    options |= {"artifact_prefix": f"{output}/", "print_final_stats": 1}
    arguments = [f"-{key}={value}" for key, value in options.items()]
    atheris.Setup([sys.argv[0], *arguments, str(output / "corpus")], once)
    atheris.Fuzz()


def _virtual() -> int:
    """Bytes of address space that the process has."""
    pages = int(Path("/proc/self/statm").read_text().split()[0])
    return pages * resource.getpagesize()


if __name__ == "__main__":
    sys.exit(main())
