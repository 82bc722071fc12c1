"""Templates of the files beside the plugin of `fairbench new`.

`$name`: registry; `$module` and `$class_name`: Python; `$method`: what the test and `check` call the method;
`$target`: the line of registry.yaml that names the class; `$package`: the folder of the package.
"""

TEST = '''"""$title fulfils the contract of fairbench."""

import fairbench.testing


class Test$class_name(fairbench.testing.ContractSuite):
    method = "$method"
'''

REGISTRY = """# Facts about $title for fairbench. Pass this file with --registry.
version: 1
methods:
  $name:
$target    title: $title
$components    # paper: {title: ..., authors: ..., venue: ..., arxiv: "0000.00000"}
    # official: {repo: owner/name, commit: 0123abc, licence: MIT, protocol: trix-150}
    # datasets: {cifar100: {$option}}  # published values per data set
"""

TARGET = "    target: $module.py:$class_name\n"

PYPROJECT = """[build-system]
requires = ["setuptools>=77"]
build-backend = "setuptools.build_meta"

[project]
name = "fairbench-$name"
version = "0.1.0"
description = "$title, a method for fairbench"
readme = "README.md"
requires-python = ">=3.11"
dependencies = ["fairbench-at"]

[project.optional-dependencies]
test = ["pytest>=8.2"]

[project.entry-points."fairbench.methods"]
$name = "fairbench_$module.$module:$class_name"

[tool.setuptools.packages.find]
where = ["src"]
"""

INIT = '"""$title, a method for fairbench."""\n'

README = """# $title

A method for fairbench (`fairbench-at`): `src/fairbench_$module/$module.py`.
Install this package to use it:

```bash
pip install -e '.[test]'
fairbench list methods --verbose
fairbench check $name
python -m pytest
fairbench run$registry_option --methods $name,dafa
```

`registry.yaml` contains facts, not code: paper, official program, published values per data set. It is
$registry_use
"""

OPTIONAL = "optional; pass it with `--registry registry.yaml`."
REQUIRED = "required for training, because it names the teacher; pass it with `--registry registry.yaml`."

PLUGIN = ""  # stands for the plugin of the shape that was chosen
FILES = {"$module.py": PLUGIN, "registry.yaml": REGISTRY, "test_$module.py": TEST}
"""The files of a method alone, by path."""

PACKAGE = {
    "pyproject.toml": PYPROJECT,
    "README.md": README,
    "src/fairbench_$module/__init__.py": INIT,
    "src/fairbench_$module/$module.py": PLUGIN,
    "registry.yaml": REGISTRY,
    "tests/test_$module.py": TEST,
}
"""The files of a package with an entry point for the method, by path."""

COMMANDS = """fairbench check $method
python -m pytest test_$module.py
fairbench run --registry registry.yaml --methods $name
"""
"""What to type next."""

PACKAGE_COMMANDS = """python -m pip install -e $package_with_tests
fairbench check $method
python -m pytest $package
fairbench run$own_registry --methods $name
"""
