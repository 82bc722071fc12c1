"""Foreign code that ends the process when it is imported is code that cannot be imported, no more."""

import pytest

from fairbench.core.imports import load_object
from fairbench.core.stopping import Stopped


@pytest.mark.parametrize("error", ["SystemExit(3)", "KeyboardInterrupt()", "GeneratorExit()"])
def test_a_file_that_exits_at_import_cannot_be_imported(tmp_path, error):
    path = tmp_path / "mine.py"
    path.write_text(f"raise {error}\n")
    with pytest.raises(ImportError, match=rf"mine\.py raised {error.split('(')[0]} when it was imported"):
        load_object(f"{path}:Mine")


def test_a_signal_during_an_import_still_stops(tmp_path):
    path = tmp_path / "mine.py"
    path.write_text("from fairbench.core.stopping import Stopped\nraise Stopped(2)\n")
    with pytest.raises(Stopped):
        load_object(f"{path}:Mine")
