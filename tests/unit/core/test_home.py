"""A user without a home folder gets a message with the way out."""

import pytest

from fairbench.core.errors import EnvironmentFault
from fairbench.core.home import expanded, user_cache
from fairbench.data.manifest import data_root


@pytest.mark.parametrize("path", ["~nobody-by-that-name/x", "~nobody-by-that-name"])
def test_a_home_that_does_not_exist_is_a_message(path):
    with pytest.raises(EnvironmentFault, match="there is no home folder") as error:
        expanded(path)
    assert "--data DIR" in error.value.hint
    assert error.value.exit_code == 3


def test_without_a_home_the_data_folder_must_be_named(monkeypatch, tmp_path):
    def homeless(path):
        raise RuntimeError("Could not determine home directory.")

    monkeypatch.setattr("fairbench.core.home.Path.expanduser", homeless)
    for ask in (lambda: user_cache({}), lambda: data_root(None, {})):
        with pytest.raises(EnvironmentFault):
            ask()
    monkeypatch.undo()
    assert user_cache({"XDG_CACHE_HOME": str(tmp_path)}) == tmp_path / "fairbench"
