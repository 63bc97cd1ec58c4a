"""How the tests are spread over the cores: what `-n auto` in pyproject.toml comes to.

What is asked for by file name runs in the process that was started, with nothing to start up, and
so does what wants to be looked at (`--pdb`, `-s`). `-n 0` does so for all.
"""

from __future__ import annotations

import os
from pathlib import Path

import pytest

# A worker holds torch and what its tests make: at the end of all, so many bytes.
MOST_WORKERS, WORKER_BYTES = 8, 2 << 30

if "PYTEST_XDIST_WORKER" in os.environ:
    # Cores are shared out among workers, not among threads; programs under test inherit it.
    # Here, because torch and numpy read it as they are imported.
    os.environ.setdefault("OMP_NUM_THREADS", "1")


@pytest.hookimpl(optionalhook=True)  # unknown where pytest-xdist is not
def pytest_xdist_auto_num_workers(config: pytest.Config) -> int:
    """What `-n auto` means; 0 is no worker at all."""
    from hzcli.engine.plan import cores, free_bytes

    if config.option.capture == "no" or config.option.trace:
        return 0
    asked = {Path(argument.partition("::")[0]) for argument in config.args}
    files = len(asked) if all(path.is_file() for path in asked) else MOST_WORKERS
    fitting = free_bytes() // WORKER_BYTES
    workers = min(cores(), files, fitting, MOST_WORKERS)
    return workers if workers > 1 else 0
