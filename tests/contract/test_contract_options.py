"""What an option's comment promises about its range, the method enforces."""

import re

import pytest
from toys import PLUGINS, REGISTRY, plugin

from fairbench.core.errors import ConfigError
from fairbench.objectives.contract import build_config

LEAST = re.compile(r"(?<![\w(]) ?(?:>= (\d+)|(\d+)\.\.\d)")  # ">= 0" or "0..1"


def bounded():
    for name in PLUGINS:
        for option in (REGISTRY.plugin(name).options or {}).values():
            found = LEAST.search(option.help)
            if found and isinstance(option.default, int | float):
                yield pytest.param(name, option.name, int(found[1] or found[2]), id=f"{name}.{option.name}")


@pytest.mark.parametrize(("name", "option", "least"), list(bounded()))
def test_a_value_below_the_range_in_an_options_comment_is_refused(name, option, least):
    assert build_config(plugin(name), {option: type(REGISTRY.plugin(name).options[option].default)(least)})
    with pytest.raises(ConfigError, match="refuses its options"):
        build_config(plugin(name), {option: least - 1})


def test_most_methods_state_a_range():
    assert len({parameter.values[0] for parameter in bounded()}) >= len(PLUGINS) - 1
