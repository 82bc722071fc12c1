"""What pyproject.toml cannot say: `registry.yaml` of the top folder ships inside the package."""

from pathlib import Path
from shutil import copyfile

from setuptools import setup
from setuptools.command.build_py import build_py


class BuildWithRegistry(build_py):
    def run(self):
        super().run()
        if not self.editable_mode:
            copyfile("registry.yaml", Path(self.build_lib) / "fairbench" / "registry.yaml")


setup(cmdclass={"build_py": BuildWithRegistry})
