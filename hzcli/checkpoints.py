"""Weights that others saved, read without running anything that their file says.

A .pth file is a pickle: a program that may call any function of Python. Two readers, both
unable to:

1. `torch.load(weights_only=True)`, which knows tensors and plain containers, and stops at
   anything else. HINet's checkpoints end here: their scheduler pickles a function.
2. A reader of our own for those. Every name that the pickle mentions becomes an inert record,
   which is neither imported nor called; tensors are rebuilt from their bytes afterwards. Names
   that no checkpoint of an optimiser needs end the reading all the same: a file that asks for
   `os.system` is not one to take weights from.

What comes out is a flat dictionary of tensors, without wrappers ("model", "state_dict", ...),
without the prefixes of parallel training ("module.") and without the optimiser's state.
"""

from __future__ import annotations

import math
import pickle
import re
import struct
import tarfile
import zipfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import IO, Any, ClassVar, NamedTuple

import torch
from torch import Tensor

from hzcli.errors import ModelError
from hzcli.io.atomic import beside
from hzcli.models import stored

# Under these names a checkpoint holds the weights, the optimiser's state and the rest beside.
WRAPPERS = ("state_dict", "model", "net", "model_state_dict", "netG", "generator", "params")
PREFIXES = ("module.", "_orig_mod.", "model.", "net.", "netG.", "generator.")
# Left behind among the weights themselves by training loops and by thop's profiler.
TRAINING = re.compile(
    r"(last_)?(epoch|step|iter|iteration)s?|optimizer.*|(lr_)?scheduler.*|arch|args|config|"
    r"best_\w+|loss|scaler|amp|version|(.*\.)?total_(ops|params)"
)
# Names in a pickle that do no harm as records: what optimisers, schedulers and numpy leave.
HARMLESS = re.compile(
    r"torch\.(optim\..+|storage\..+|_utils\._rebuild_(tensor|tensor_v2|parameter)|\w*Storage|Size|"
    r"device|dtype|float\d+|bfloat16|u?int\d+|bool)|collections\.\w+|"
    r"(builtins|__builtin__)\.(getattr|set|frozenset|slice|range|complex|bytearray|object|dict|"
    r"list|tuple|int|float|bool|str|bytes)|_codecs\.encode|copy_?reg\._reconstructor|"
    r"numpy\.(dtype|ndarray|\w+\d+|bool_)|numpy\._?core\.multiarray\.(scalar|_reconstruct)|"
    r"argparse\.Namespace|types\.SimpleNamespace|easydict\.EasyDict|datetime\.\w+"
)
DTYPES = {
    "FloatStorage": torch.float32, "DoubleStorage": torch.float64, "HalfStorage": torch.float16,
    "BFloat16Storage": torch.bfloat16, "LongStorage": torch.int64, "IntStorage": torch.int32,
    "ShortStorage": torch.int16, "CharStorage": torch.int8, "ByteStorage": torch.uint8,
    "BoolStorage": torch.bool,
}  # fmt: skip
LEGACY_MAGIC = 0x1950A86A20F9469CFC6C  # what torch before 1.6 begins its files with


def read(path: Path) -> dict[str, Tensor]:
    """The weights in a file, by their bare names, in the precision they were stored in.

    Args:
        path: .safetensors, or whatever torch.save wrote (.pth, .pt, .pkl, .tar, ...).

    Raises:
        ModelError: the file is damaged, is no checkpoint, holds no weights, holds something
            else among them, or wants to run code.
    """
    if not path.is_file():
        raise ModelError(f"there is no file {path}", "Check its spelling.")
    if path.suffix == ".safetensors":
        return bare(stored(path)[0], path.name)
    if not zipfile.is_zipfile(path) and tarfile.is_tarfile(path):
        raise ModelError(
            f"{path.name} is an archive (tar), not a checkpoint",
            "Unpack it, and import what is in it.",
        )
    return bare(_load(path), path.name)


def write(
    state: Mapping[str, Tensor], path: Path, metadata: dict[str, str], *, overwrite: bool = True
) -> None:
    """Write tensors as a safetensors file, whole or not at all."""
    from safetensors.torch import save

    # Two names of one memory are two tensors in the file.
    apart = {key: value.detach().cpu().clone().contiguous() for key, value in state.items()}
    with beside(path, overwrite=overwrite) as part:
        part.write_bytes(save(apart, metadata=metadata))


def bare(raw: Any, name: str) -> dict[str, Tensor]:
    """The weights inside what a checkpoint holds.

    Args:
        raw: containers and tensors. name: the file's, for what is said of it.

    Raises:
        ModelError: there are none, or not only tensors.
    """
    held = unwrapped(raw)
    if not isinstance(held, Mapping) or not any(isinstance(v, Tensor) for v in held.values()):
        what = ", ".join(map(str, list(held)[:5])) if isinstance(held, Mapping) else ""
        raise ModelError(
            f"{name} holds no weights, but {what or type(held).__name__}",
            "hz takes a state_dict, alone or under the name model or state_dict.",
        )
    state = {key: v for key, v in held.items() if not TRAINING.fullmatch(str(key))}
    for key, value in state.items():
        _refuse_odd(key, value, name)
    while prefix := next((p for p in PREFIXES if all(k.startswith(p) for k in state)), ""):
        state = {key.removeprefix(prefix): value for key, value in state.items()}
    return state


def unwrapped(raw: Any) -> Any:
    """What lies under the names that training loops give to weights, however deep."""
    while isinstance(raw, Mapping):
        inner = (raw[key] for key in WRAPPERS if isinstance(raw.get(key), Mapping))
        found = next(inner, None)
        if found is None:
            break
        raw = found
    return raw


def _refuse_odd(key: Any, value: Any, name: str) -> None:
    if not isinstance(key, str) or not isinstance(value, Tensor):
        kind = getattr(value, "name", type(value).__name__)
        raise ModelError(f'"{key}" among the weights in {name} is no tensor, but {kind}')
    if value.layout != torch.strided or value.is_quantized or value.is_complex():
        raise ModelError(f'"{key}" in {name} is no plain tensor ({value.dtype}, {value.layout})')
    if value.is_floating_point() and not value.isfinite().all():
        raise ModelError(f'"{key}" in {name} holds values that are no numbers')


def _load(path: Path) -> Any:
    try:
        return torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError:
        pass  # a name that torch does not know; the other reader says which
    except Exception as error:  # a damaged file may end in any of them
        raise _unreadable(path, error) from error
    try:
        with open(path, "rb") as file:
            return _zipped(file) if zipfile.is_zipfile(path) else _legacy(file)
    except ModelError:
        raise
    except Exception as error:
        raise _unreadable(path, error) from error


def _unreadable(path: Path, error: Exception) -> ModelError:
    reason = (str(error).strip() or type(error).__name__).splitlines()[0][:120]
    return ModelError(
        f"{path.name} is no readable checkpoint ({reason})", "Copy or download it again."
    )


# The reader for checkpoints with harmless extras


class _Inert:
    """What a pickle names, as a record: arguments are kept, nothing happens."""

    name: ClassVar[str] = ""
    args: tuple[Any, ...]

    def __new__(cls, *args: Any, **more: Any) -> _Inert:
        record = object.__new__(cls)
        record.args = args
        return record

    def __init__(self, *args: Any, **more: Any) -> None:
        pass

    def _nothing(self, *args: Any) -> None:
        pass

    __setstate__ = __setitem__ = append = extend = add = _nothing


class _Ordered(dict):  # type: ignore[type-arg]
    """An OrderedDict, without the attributes that a pickle may give it."""

    def __setstate__(self, state: Any) -> None:
        pass


class _Storage(NamedTuple):
    """A block of numbers in the file; a tuple, so that no pickle can change it."""

    dtype: torch.dtype
    key: str
    numel: int


class _Reader(pickle.Unpickler):
    """Builds containers and records. Imports and calls nothing that the pickle names."""

    def __init__(self, file: IO[bytes]) -> None:
        super().__init__(file)
        self.storages: dict[str, _Storage] = {}

    def find_class(self, module: str, name: str) -> type:
        full = f"{module}.{name}"
        if full == "collections.OrderedDict":
            return _Ordered
        if not HARMLESS.fullmatch(full):
            raise ModelError(
                f"the file wants Python to run {full}: refused, nothing was run",
                "Weights need no code: save the network's state_dict() alone.",
            )
        return type("Inert", (_Inert,), {"name": full})

    def persistent_load(self, pid: Any) -> _Storage:
        kind, storage, key, _, numel = pid[:5]
        assert (kind == "storage" and len(pid) < 6) or pid[5] is None
        found = _Storage(DTYPES[storage.name.rpartition(".")[2]], str(key), int(numel))
        return self.storages.setdefault(found.key, found)


def _require(well: bool, why: str) -> None:
    if not well:
        raise ValueError(why)


def _zipped(file: IO[bytes]) -> Any:
    """What torch >= 1.6 saves: data.pkl and one entry a storage, in a zip."""
    with zipfile.ZipFile(file) as archive:
        names = archive.namelist()
        index = next((name for name in names if name.endswith("/data.pkl")), None)
        if index is None:
            raise ValueError("a zip, but not one of torch's")
        root = index.removesuffix("data.pkl")
        if f"{root}byteorder" in names:
            _require(archive.read(f"{root}byteorder") == b"little", "its bytes are big-endian")
        with archive.open(index) as data:
            raw = _Reader(data).load()

        def numbers(storage: _Storage) -> bytes:
            entry = archive.getinfo(f"{root}data/{storage.key}")
            _require(entry.file_size == storage.numel * storage.dtype.itemsize, "truncated")
            return archive.read(entry)

        return _revived(raw, numbers)


def _legacy(file: IO[bytes]) -> Any:
    """What torch < 1.6 saved: five pickles, then the storages one after the other."""
    _require(_Reader(file).load() == LEGACY_MAGIC, "neither a zip nor torch's older format")
    for _ in ("protocol", "byte order"):
        _Reader(file).load()
    reader = _Reader(file)
    raw = reader.load()
    held: dict[str, bytes] = {}
    for key in _Reader(file).load():
        storage = reader.storages[str(key)]
        count = storage.numel * storage.dtype.itemsize
        _require(struct.unpack("<q", file.read(8)) == (storage.numel,), "truncated")
        held[storage.key] = file.read(count)
        _require(len(held[storage.key]) == count, "truncated")
    return _revived(raw, lambda storage: held[storage.key])


def _revived(raw: Any, numbers: Callable[[_Storage], bytes]) -> Any:
    """The weights' level of what was read, with tensors in the place of their records."""
    level = unwrapped(raw)
    if not isinstance(level, Mapping):
        return level
    kept: dict[str, Tensor] = {}  # several tensors may share one storage

    def revive(value: Any) -> Any:
        kind = value.name.removeprefix("torch._utils._rebuild_") if _is_record(value) else ""
        if kind == "parameter":
            return revive(value.args[0])
        if kind not in ("tensor", "tensor_v2"):
            return value
        storage, offset, size, stride = value.args[:4]
        last = offset + sum((n - 1) * step for n, step in zip(size, stride, strict=True))
        within = min((0, offset, *size, *stride)) == 0 and last < storage.numel
        _require(within or math.prod(size) == 0, "a tensor reaches beyond its numbers")
        if storage.key not in kept:
            flat = torch.empty(storage.numel, dtype=storage.dtype)
            if storage.numel:
                flat.view(torch.uint8)[:] = torch.frombuffer(
                    bytearray(numbers(storage)), dtype=torch.uint8
                )
            kept[storage.key] = flat
        return kept[storage.key].as_strided(size, stride, offset).clone()

    return {key: revive(value) for key, value in level.items()}


def _is_record(value: Any) -> bool:
    return isinstance(value, _Inert)
