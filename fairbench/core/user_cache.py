"""The user's cache folder, where there is one: a container may run as a user without a home folder."""

import os
from collections.abc import Mapping
from pathlib import Path


def user_cache(environ: Mapping[str, str] | None = None) -> Path | None:
    """fairbench's folder in $XDG_CACHE_HOME or ~/.cache, which need not exist; None without a home folder."""
    environ = os.environ if environ is None else environ
    try:
        return Path(environ.get("XDG_CACHE_HOME") or "~/.cache").expanduser() / "fairbench"
    except RuntimeError:  # the user id has no home folder
        return None
