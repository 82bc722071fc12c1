"""The keys of registry entries: one frozen model per kind of entry.

Every number may be written as a fraction, "8/255". Radii and steps are in pixel units of [0, 1], epochs
are counted from 1. Cross references between entries are checked by `fairbench.registry.load`.
"""

from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field, ValidationInfo, field_validator, model_validator

from fairbench.core.class_names import class_names_fault
from fairbench.registry.components import Augment, Averaging, HoldOut, WeightPerturbation
from fairbench.registry.fields import (
    TAGS,
    Model,
    Number,
    RegistryEntry,
    Target,
    Terms,
    Texts,
    distinct,
    split_text,
    wrong,
)
from fairbench.registry.protocol import RequestedAttack
from fairbench.registry.seeds import read_seeds
from fairbench.registry.trained_weights import FineTune, Teacher

MAX_CHANNELS = 4
TIMM = "timm:"


class Paper(Model):
    """Where a method or a data set was published."""

    key: str | None = Field(default=None, description="citation key")
    title: str | None = None
    authors: str | None = None
    venue: str | None = Field(default=None, description="for instance ICLR 2024")
    arxiv: str | None = Field(default=None, description="in quotes: 2401.12530 would lose its zero")


class Official(Model):
    """The authors' own code and schedule."""

    repo: str | None = Field(default=None, description="owner/name")
    commit: str | None = Field(
        default=None, pattern="^[0-9a-f]{7,40}$", description="in quotes when all digits"
    )
    licence: str | None = None
    protocol: str | None = Field(default=None, description="the protocol of this method under `official`")


class MethodEntry(RegistryEntry):
    """A method with its published settings."""

    target: Target | None = Field(
        default=None, description="module:Class or file.py:Class; None: the entry point of this name"
    )
    extends: str | None = Field(
        default=None, description="a method whose target and settings are the defaults of this one"
    )
    title: str | None = Field(default=None, description="as tables print it")
    config: dict[str, Any] = Field(default={}, description="overrides of the plugin's defaults")
    datasets: dict[str, dict[str, Any]] = Field(
        default={},
        description="published values per data set; override `config` and the components",
    )
    hold_out: HoldOut | None = None
    augment: Augment | None = None
    averaging: Averaging | None = None
    awp: WeightPerturbation | None = None
    fine_tune: FineTune | None = None
    teacher: Teacher | None = None
    natural_teacher: Teacher | None = None
    paper: Paper | None = None
    official: Official | None = None
    reconstructed: bool = Field(
        default=False, description="no program of the authors does this: captions of tables say so"
    )
    cost: Number = Field(default=1.0, gt=0, description="training time in units of TRADES")
    tags: Texts = TAGS


class Defaults(Model):
    """What is run on a data set where the user names no network, protocol or attacks."""

    model: str
    protocol: str
    attacks: Annotated[tuple[RequestedAttack, ...], Field(strict=False)] = Field(
        default=(), description="instead of the protocol's"
    )


class DatasetEntry(RegistryEntry):
    """A data set: images with labels 0..C-1 and a fixed split."""

    reader: Literal[
        "digits",
        "cifar10",
        "cifar100",
        "stl10",
        "tiny-imagenet",
        "mnist",
        "fashion-mnist",
        "svhn",
        "folder",
        "npz",
    ]
    title: str | None = Field(default=None, description="as tables print it")
    path: str | None = Field(
        default=None,
        description="reader folder: a folder with train/CLASS/ and test/CLASS/; npz: the file; or an archive",
    )
    num_classes: int | None = Field(
        default=None, ge=2, description="C; counted by `fairbench prepare` for your own images"
    )
    image_shape: Annotated[tuple[int, int, int], Field(strict=False)] = Field(
        description="channels, height, width after preparation"
    )
    classes: Texts | None = Field(
        default=None,
        description="C names in the order of labels; None: as prepared, class folders sorted by name",
    )
    train_size: int | None = Field(default=None, ge=1, description="images")
    test_size: int | None = Field(default=None, ge=1, description="images")
    flip: bool = Field(
        default=True,
        description="whether a mirrored image has the same class; false: images are never mirrored",
    )
    digest: str | None = Field(
        default=None, pattern="^[0-9a-f]{64}$", description="SHA-256 of the prepared data"
    )
    paper: Paper | None = None
    defaults: Defaults | None = Field(
        default=None, description="network, protocol and attacks where the user names none"
    )
    tags: Texts = TAGS

    @field_validator("image_shape")
    @classmethod
    def _positive(cls, shape: tuple[int, int, int]) -> tuple[int, int, int]:
        if min(shape) < 1:
            raise wrong(f"expected channels, height and width of at least 1, got {list(shape)}")
        if shape[0] > MAX_CHANNELS:
            order = f" (write [{shape[2]}, {shape[0]}, {shape[1]}])" if shape[2] <= MAX_CHANNELS else ""
            raise wrong(f"channels come first: expected 1 to {MAX_CHANNELS}, got {list(shape)}{order}")
        return shape

    @field_validator("classes")
    @classmethod
    def _one_name_per_class(
        cls, classes: tuple[str, ...] | None, info: ValidationInfo
    ) -> tuple[str, ...] | None:
        count = info.data.get("num_classes")
        if classes is not None and count is not None and len(classes) != count:
            raise wrong(f"{len(classes)} names for {count} classes")
        fault = class_names_fault(classes or ())
        if fault:
            raise wrong(fault)
        return classes

    @model_validator(mode="after")
    def _reader_has_its_fields(self) -> "DatasetEntry":
        own = self.reader in ("folder", "npz")
        if own and self.path is None:
            raise wrong(f"'path' is missing: the reader {self.reader!r} needs it")
        if not own and self.path is not None:
            raise wrong(
                f"the reader {self.reader!r} takes no path; its data come from `fairbench prepare`", "path"
            )
        if not own and self.num_classes is None:
            raise wrong("'num_classes' is missing")
        return self


class Pooling(Model):
    """The average pooling at the end of a network, which decides on the sizes of its images."""

    stride: int = Field(ge=1, description="image pixels per pixel of the last feature map")
    window: int = Field(ge=1, description="of the pooling: the last feature map is a multiple of it")
    single: bool = Field(default=False, description="whether the last feature map is one window")

    def misfit(self, image_shape: tuple[int, int, int]) -> str:
        """Why images of this shape cannot be taken; "" when they can."""
        height, width = (-(-size // self.stride) for size in image_shape[1:])
        if self.single:
            fits = height == width == self.window
        else:
            fits = height % self.window == 0 and width % self.window == 0
        window = f"{self.window}x{self.window}"
        need = window if self.single else f"a multiple of {window}"
        return "" if fits else f"its last feature map would be {height}x{width}, and it needs {need}"


class ModelEntry(RegistryEntry):
    """A network: a function (num_classes, image_shape) -> network for images in [0, 1]."""

    target: Annotated[Target, Field(pattern=":")] = Field(description="module:function or file.py:function")
    title: str | None = Field(default=None, description="as tables print it")
    pooling: Pooling | None = Field(
        default=None, description="which image sizes it takes; None: it is tried out before a run starts"
    )
    mflops: Number | None = Field(
        default=None, gt=0, description="millions of operations per 3x32x32 forward, for estimates"
    )
    mparams: Number | None = Field(
        default=None, gt=0, description="millions of parameters with 10 classes, for estimates"
    )
    tags: Texts = TAGS


def timm_entry(name: str) -> ModelEntry | None:
    """The network `timm:NAME` of the package timm, which needs no entry; None for any other name."""
    network = name.removeprefix(TIMM)
    if network == name or not network.isidentifier():
        return None
    return ModelEntry(name=name, target=f"fairbench.models.timm_networks:{network}")


class SuiteEntry(RegistryEntry):
    """A named set of cells: methods x datasets x models x seeds under one protocol.

    Methods, data sets and networks are chosen as on the command line (`fairbench.registry.names`).
    """

    title: str | None = None
    methods: Annotated[Terms, Field(min_length=1)]
    datasets: Annotated[Terms, Field(min_length=1)]
    models: Annotated[Terms, Field(min_length=1)]
    seeds: Annotated[tuple[int, ...], Field(strict=False, min_length=1, description="[0, 1], or 0..4")]
    protocol: str
    evaluation: Annotated[tuple[RequestedAttack, ...], BeforeValidator(split_text), Field(strict=False)] = (
        Field(default=(), description="attacks instead of the protocol's")
    )

    @field_validator("seeds", mode="before")
    @classmethod
    def _ranges(cls, seeds: Any) -> tuple[int, ...]:
        numbers: list[int] = []
        for index, part in enumerate(seeds if isinstance(seeds, list | tuple) else [seeds]):
            where = (index,) if isinstance(seeds, list | tuple) else ()
            try:
                numbers += read_seeds(part)
            except ValueError as error:
                raise wrong(f"{error}; write [0, 1, 2] or 0..4", *where) from error
            if len(set(numbers)) < len(numbers):
                raise wrong(f"{part!r} is given twice", *where)
        return tuple(numbers)

    @field_validator("methods", "datasets", "models")
    @classmethod
    def _no_cell_twice(cls, values: tuple[Any, ...]) -> tuple[Any, ...]:
        return distinct(values)
