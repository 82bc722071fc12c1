"""Settings of executors in a YAML file: partition, account, time limits and other options of a cluster."""

from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from pydantic import ValidationError

from fairbench.registry.faults import explain, fault_error
from fairbench.registry.fields import Model
from fairbench.registry.source import Source, read_source

Settings = TypeVar("Settings", bound=Model)


@dataclass(frozen=True)
class Profile:
    """A YAML file with one section for each executor, or no file at all."""

    source: Source | None = None

    def section(self, executor: str, model: type[Settings]) -> Settings:
        """The settings of one executor. Raises ConfigError that names file, line and key of each mistake."""
        given = None if self.source is None else self.source.data.get(executor)
        try:
            return model.model_validate({} if given is None else given)
        except ValidationError as error:
            assert self.source is not None
            faults = explain(error, model, executor)
            raise fault_error(self.source.fault((executor, *path), text) for path, text in faults) from error


def read_profile(path: Path | None) -> Profile:
    """The profile in a file; without one, every setting is as it is by default. Raises ConfigError."""
    if path is None:
        return Profile()
    source = read_source(path)
    if not source.faults and not isinstance(source.data, dict):
        source.faults.append(source.fault((), "expected a section for each executor, such as `slurm:`"))
    if source.faults:
        raise fault_error(source.faults)
    return Profile(source)
