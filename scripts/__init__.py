"""Entry points: `python -m scripts.NAME --help`."""

import gc
import sys

# Python names a module "-m" while it looks for it: a command of ours is being started. Most of what imports make stays
# for good, and looking through it for garbage takes a sixth of their time. `command.launch` turns it on again.
if sys.argv[:1] == ["-m"]:
    gc.disable()
