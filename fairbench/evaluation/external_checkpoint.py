"""Checkpoints of other programs: the state dicts in a torch or safetensors file. No pickled code is run."""

import hashlib
import io
import pickle
import pickletools
import re
import warnings
import zipfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from fairbench.core.errors import CheckpointError
from fairbench.core.file_kinds import file_kind
from fairbench.models.checkpoints import read_tensors

DEPTH = 4  # mappings in mappings that are searched for state dicts
SAVE_WEIGHTS = "save only the weights: torch.save(model.state_dict(), FILE), or as safetensors"
NUMBERS = ("f2", "f4", "f8", "i1", "i2", "i4", "i8", "u1", "u2", "u4", "u8", "?")
NUMPY: list[Any] = [
    np.dtype,
    np.ndarray,
    *{type(np.dtype(name)) for name in NUMBERS},
    *((np.empty(0).__reduce__()[0], f"numpy.{core}.multiarray._reconstruct") for core in ("core", "_core")),
    *((np.float64(0).__reduce__()[0], f"numpy.{core}.multiarray.scalar") for core in ("core", "_core")),
]
"""Constructors of numbers and arrays of numpy, which trainers store beside the weights. They run no code."""
TORCH_MAGIC = (0x1950A86A20F9469CFC6C).to_bytes(10, "little")  # begins the older format of torch.save
OPTIMISER = ("optim", "lr_sched", "schedule", "amp", "scaler")  # keys that hold no network
ALLOWED = (
    *(
        "torch._utils.",
        "torch.Float",
        "torch.Half",
        "torch.BFloat",
        "torch.Double",
        "torch.Long",
        "torch.Int",
    ),
    *("torch.Bool", "torch.Byte", "torch.Size", "torch.storage.", "torch.serialization.", "torch._tensor."),
    *("torch.nn.parameter.", "torch.device", "collections.OrderedDict", "_codecs.encode", "numpy."),
)  # beginnings of names that torch allows beside weights


@dataclass(frozen=True)
class Checkpoint:
    """The state dicts in a file, by their keys joined with dots; "" for the whole file."""

    path: Path
    state_dicts: Mapping[str, Mapping[str, Tensor]]


def read_checkpoint(path: Path) -> Checkpoint:
    """All state dicts in `path`, with the names of the file.

    Reads safetensors files, and torch files with weights_only=True. Raises CheckpointError with the
    reason when the file is missing, truncated, not a checkpoint, or contains more than weights.
    """
    if not path.is_file():
        raise CheckpointError(
            f"there is no checkpoint at {path}.",
            hint="it is a folder: give a file in it, or name a model of the zoo: --models robustbench:NAME"
            if path.is_dir()
            else "",
        )
    if path.suffix == ".safetensors" or is_safetensors(path):
        tensors, _ = read_tensors(path, links=True)
        return Checkpoint(path, {"": tensors})
    refuse_other_kinds(path)
    try:
        with (
            warnings.catch_warnings(action="ignore"),  # torch warns about pickles of other tools
            torch.serialization.safe_globals(NUMPY),
        ):
            content = torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        raise CheckpointError(
            f"{path} contains more than weights, or is damaged; it was not loaded.",
            hint=f"{SAVE_WEIGHTS}\nreason: {unpickling_reason(path, error)}",
        ) from error
    except Exception as error:  # a damaged file may raise anything
        if is_other_pickle(path):
            raise CheckpointError(
                f"{path} contains more than weights, or is damaged; it was not loaded.",
                hint=f"{SAVE_WEIGHTS}\nreason: {unpickling_reason(path, error)}",
            ) from error
        reason = f"{type(error).__name__} {error}".splitlines()[0][:200]
        reason = (
            type(error).__name__ if "weights_only" in reason else reason
        )  # torch's advice to load it anyway
        raise CheckpointError(
            f"{path} cannot be read: {reason}.",
            hint="the file is truncated, damaged or not a checkpoint; copy it again",
        ) from error
    return Checkpoint(path, require_state_dicts(content, path))


def require_state_dicts(content: Any, path: Path) -> dict[str, dict[str, Tensor]]:
    """The state dicts in the content of a torch file. Raises CheckpointError with what is there."""
    state_dicts = dict(find_state_dicts(content))
    if state_dicts:
        return state_dicts
    held = type(content).__name__
    if isinstance(content, Mapping):
        held = f"keys {', '.join(str(key) for key in list(content)[:10])}" if content else "no keys"
    raise CheckpointError(
        f"{path} does not contain a state dict: it holds {held}.",
        hint="expected tensors by name, or a mapping with them, such as {'state_dict': ..., 'epoch': 3}",
    )


def find_state_dicts(
    content: Any, key: str = "", depth: int = DEPTH
) -> Iterator[tuple[str, dict[str, Tensor]]]:
    """(keys, tensors by name) of every mapping from names to tensors; other values are left out."""
    if isinstance(content, Sequence) and not isinstance(content, str | bytes):
        content = dict(enumerate(content)) if len(content) <= 16 else {}
    if not isinstance(content, Mapping) or depth < 0:
        return
    tensors = {name: value for name, value in content.items() if isinstance(value, Tensor)}
    if tensors and all(isinstance(name, str) for name in tensors):
        yield key, tensors
    for name, value in content.items():
        if not isinstance(value, Tensor) and not str(name).startswith(OPTIMISER):
            yield from find_state_dicts(value, f"{key}.{name}" if key else str(name), depth - 1)


def is_safetensors(path: Path) -> bool:
    """Whether the content is that of a safetensors file: the length of a JSON header, then the header."""
    with path.open("rb") as file:
        head = file.read(9)
    return len(head) == 9 and head[8:] == b"{" and int.from_bytes(head[:8], "little") < path.stat().st_size


def refuse_other_kinds(path: Path) -> None:
    """Raise CheckpointError if the file is something else than a torch checkpoint, and say what."""
    kind = file_kind(path)
    if kind == "a zip archive":
        kind = _zip_kind(path)
    elif path.suffix == ".onnx":
        kind = "an ONNX network"
    if kind is not None:
        raise CheckpointError(
            f"{path} cannot be read as a checkpoint: it is {kind}.",
            hint=f"expected a file of torch.save, or safetensors; {SAVE_WEIGHTS}",
        )


def _zip_kind(path: Path) -> str | None:
    """What a zip archive is, if not a file of torch.save; None for one, or a damaged archive."""
    try:
        with zipfile.ZipFile(path) as zipped:
            names = zipped.namelist()
    except Exception:  # a damaged zip may raise any class
        return None
    inner = {name.partition("/")[2] or name for name in names}
    if "constants.pkl" in inner or any(name.startswith("code/") for name in inner):
        return "a TorchScript program (torch.jit.save), which holds code"
    if "data.pkl" in inner:
        return None
    if any(name.startswith(("models/", "serialized_")) for name in (*inner, *names)):
        return "an exported program (torch.export), which holds a graph"
    if names and all(name.endswith(".npy") for name in names):
        return "an archive of numpy arrays (.npz)"
    return f"a zip archive with {', '.join(names[:3])}{', ...' if names[3:] else ''}: unpack it"


def unpickling_reason(path: Path, error: Exception) -> str:
    """Why torch refused a pickle: the foreign types in it. Torch's advice to load it anyway is left out."""
    types = foreign_types(path)
    more = f" and {len(types) - 5} more" if types[5:] else ""
    if any(name.startswith("torch.nn.modules.") for name in types):
        return f"it holds a whole network, pickled with its classes: {', '.join(types[:5])}{more}"
    if types:
        return f"it holds Python objects: {', '.join(types[:5])}{more}"
    found = re.search(r"(?:GLOBAL|class) ([\w.]+)", str(error))
    if found:
        return f"it holds objects of the type {found[1]}"
    return "it is a pickle that torch.save did not write" if is_other_pickle(path) else "the file is damaged"


def is_other_pickle(path: Path) -> bool:
    """Whether a file begins as a pickle, but not as one of torch.save."""
    with path.open("rb") as file:
        head = file.read(64)
    return head.startswith(b"\x80") and TORCH_MAGIC not in head


def foreign_types(path: Path) -> list[str]:
    """Names of classes and functions in the pickles of a file that are not allowed beside weights.

    The pickles are only scanned: nothing in them is executed.
    """
    try:
        if zipfile.is_zipfile(path):
            with zipfile.ZipFile(path) as zipped:
                pickles = [zipped.read(name) for name in zipped.namelist() if name.endswith("data.pkl")]
        else:
            pickles = [path.read_bytes()]
    except Exception:  # a damaged zip may raise any class
        return []
    names = [name for content in pickles for name in _globals(content)]
    return list(dict.fromkeys(name for name in names if not name.startswith(ALLOWED)))


def _globals(content: bytes) -> Iterator[str]:
    """The dotted names that the pickles in `content`, one behind the other, refer to."""
    strings: list[str | None] = []  # as they are pushed; None for every other value
    memo: dict[int, str | None] = {}
    stream = io.BytesIO(content)
    try:
        while stream.tell() < len(content):
            for operation, argument, _ in pickletools.genops(stream):
                if operation.name == "GLOBAL":
                    yield str(argument).replace(" ", ".")
                elif operation.name == "STACK_GLOBAL":
                    yield ".".join(text or "?" for text in strings[-2:])
                    strings.append(None)
                elif operation.name in ("MEMOIZE", "BINPUT", "LONG_BINPUT", "PUT"):
                    memo[len(memo) if argument is None else int(str(argument))] = (
                        strings[-1] if strings else None
                    )
                elif operation.name in ("BINGET", "LONG_BINGET", "GET"):
                    strings.append(memo.get(int(str(argument))))
                else:
                    strings.append(argument if isinstance(argument, str) else None)
    except Exception:  # behind the pickles are the tensors; a damaged file may raise anything
        return


def digest_weights(state: Mapping[str, Any]) -> str:
    """SHA-256 of a state dict's tensors: their names, types, shapes and bits."""
    hasher = hashlib.sha256()
    for name, value in sorted((n, v) for n, v in state.items() if isinstance(v, Tensor)):
        hasher.update(f"{name} {value.dtype} {tuple(value.shape)}\n".encode())
        hasher.update(value.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy().data)
    return hasher.hexdigest()
