"""Train a network: from a config to a run folder.

    python -m scripts.train --config=configs/lenet5_digits.py --workdir=runs/lenet5_digits --config.train.epochs=20

    python -m scripts.train ... --coordinator=HOST:PORT --processes=2 --process=0  # and 1 on the other host

The same command on the same folder resumes; on a finished one it says so. Any key of configs/base.py can be set.
docs/scaling.md tells of several hosts.
"""

if not __package__:
    raise SystemExit("error: scripts/train.py would hide the package `train`; run it as: python -m scripts.train")

from pathlib import Path

from absl import flags
from ml_collections import config_flags

from scripts import command, hosts
from train import loop, settings
from train.data import dataset, preview
from train.errors import UserError

flags.adopt_module_key_flags(hosts)
_WORKDIR = flags.DEFINE_string("workdir", None, "The run folder.")
_PREVIEW = flags.DEFINE_string("preview", None, "Draw what augmentation does to this PNG file, and do not train.")


def main() -> None:
    """Train, or draw."""
    config = flags.FLAGS.config
    if _PREVIEW.value:
        path = Path(_PREVIEW.value).expanduser()
        if path.suffix.lower() != ".png":
            raise UserError(f"--preview={_PREVIEW.value}: must end in .png")
        settings.resolve(config)
        rows = preview.save(dataset.load(config.dataset).train, config, path)
        print(f"{path}: rows from the top: {', '.join(rows)}")
    elif _WORKDIR.value:
        given = config_flags.get_override_values(flags.FLAGS["config"])
        loop.train(config, Path(_WORKDIR.value).expanduser(), given)
    else:
        raise UserError("--workdir=FOLDER is missing: the folder for this run, new or to be resumed")


if __name__ == "__main__":
    command.launch(hosts.over_hosts(main), config="lenet5_digits.py")
