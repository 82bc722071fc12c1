"""The user's home folder, where there is one: a container may run as a user without it."""

import os
from collections.abc import Mapping
from pathlib import Path

from fairbench.core.errors import EnvironmentFault


def expanded(path: str | Path) -> Path:
    """`path` with a home folder in place of "~" or "~NAME". Raises EnvironmentFault when there is none."""
    try:
        return Path(path).expanduser()
    except RuntimeError as error:
        raise EnvironmentFault(
            f"there is no home folder for {path}.",
            hint="write the whole path; for data: --data DIR, $FAIRBENCH_DATA or $XDG_CACHE_HOME",
        ) from error


def user_cache(environ: Mapping[str, str] | None = None) -> Path:
    """fairbench's folder in $XDG_CACHE_HOME or ~/.cache, which need not exist. Raises as `expanded` does."""
    environ = os.environ if environ is None else environ
    return expanded(environ.get("XDG_CACHE_HOME") or "~/.cache") / "fairbench"
