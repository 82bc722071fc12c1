"""What pyproject.toml cannot set: `registry.yaml` and `skeletons` of the top folder are in the package."""

from pathlib import Path
from shutil import copyfile, copytree, ignore_patterns

from setuptools import setup
from setuptools.command.build_py import build_py


class BuildWithRegistry(build_py):
    def run(self):
        super().run()
        if not self.editable_mode:
            package = Path(self.build_lib) / "fairbench"
            copyfile("registry.yaml", package / "registry.yaml")
            files = ignore_patterns("__pycache__")
            copytree("skeletons", package / "skeletons", ignore=files, dirs_exist_ok=True)


setup(cmdclass={"build_py": BuildWithRegistry})
