"""Pickles that run code, by every opcode that calls: what they call, how, wrapped in what, and as which file."""

from __future__ import annotations

import gzip
import io
import marshal
import pickle
import struct
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np

from hostile_cifar import PICKLES
from torture.gift import Gift, Yard, chance, pick, word
from torture.gift_readers import ANY, WEIGHTS

Arguments = tuple[object, ...]
CIFAR_FILES = ("data_batch_1", "test_batch")
LARGE = {name for name in PICKLES if any(w in name for w in ("million", "MB", "digits", "up and down", "escapes"))}


def calls(yard: Yard) -> dict[str, Arguments]:
    """What payloads call, "module name", with arguments by which it would touch the canary."""
    canary, code = yard.canary, f"open({yard.canary!r}, 'w')"
    touch, shell = ["touch", canary], f"touch {canary}"
    return {
        "os system": (shell,), "posix system": (shell,), "os popen": (shell,), "os mkdir": (canary,),
        "os execvp": ("touch", touch), "os spawnvp": (0, "touch", touch), "posix mkdir": (canary,),
        "os posix_spawnp": ("touch", touch, {}), "os rename": (yard.secret, canary), "os symlink": ("/", canary),
        "os link": (yard.secret, canary), "os truncate": (yard.secret, 0), "shutil copy": (yard.secret, canary),
        "subprocess call": (touch,), "subprocess Popen": (touch,), "subprocess check_output": (touch,),
        "subprocess getoutput": (shell,), "subprocess run": (touch,), "pty spawn": (touch,), "commands getoutput":
        (shell,),
        "builtins exec": (code,), "builtins eval": (code,), "__builtin__ eval": (code,), "builtins open": (canary, "w"),
        "io open": (canary, "w"), "io FileIO": (canary, "w"), "_io FileIO": (canary, "w"), "codecs open": (canary, "w"),
        "logging FileHandler": (canary,), "pathlib Path.touch": (canary,), "timeit timeit": (code,), "runpy run_path":
        (yard.secret,), "code interact": (), "cProfile run": (code,), "profile run": (code,), "pdb run": (code,),
        "bdb Bdb": (), "doctest debug_script": (code,), "webbrowser open": (f"file://{canary}",), "pydoc pipepager":
        ("x", shell), "importlib import_module": ("antigravity",), "builtins __import__": ("antigravity",),
        "urllib.request urlopen": ("http://127.0.0.1:9/",), "socket create_connection": (("127.0.0.1", 9), 0.1),
        "http.client HTTPConnection": ("127.0.0.1", 9), "ctypes CDLL": (yard.secret,), "numpy load": (yard.secret,),
        "numpy fromfile": (yard.secret,), "numpy memmap": (yard.secret,), "torch load": (yard.secret,),
        "torch.hub load":
        (canary, "x"), "torch.storage _load_from_bytes": (_simple(shell),), "pickle loads": (_simple(shell),),
        "_pickle loads": (_simple(shell),), "marshal loads": (marshal.dumps(compile(code, "<x>", "exec")),),
        "operator attrgetter": ("system",), "functools partial": (print, shell), "builtins getattr": ((), "__class__"),
        "torch._utils _rebuild_tensor": ((), 2**40, (2**31, 2**31), (1, 1)), "sqlite3 connect": (canary,),
        "numpy.testing._private.utils runstring": (code, {}), "torch.utils.cpp_extension load_inline": ("x", code),
        "tempfile mkdtemp": ("x", "y", str(yard.foreign)), "zipfile ZipFile": (canary, "w"), "tarfile open": (canary,
        "w"),
        "dbm open": (canary, "n"), "shelve open": (canary,), "multiprocessing.util spawnv_passfds": (b"touch", touch,
        ()),
        "idlelib.pyshell ModifiedInterpreter": (), "lib2to3.pgen2.grammar Grammar.loads": (_simple(shell),),
        "builtins breakpoint": (), "sys.settrace settrace": (), "asyncio.subprocess create_subprocess_shell": (shell,),
    }  # fmt: skip


def _simple(shell: str) -> bytes:
    return b"cos\nsystem\n" + b"X" + struct.pack("<I", len(shell)) + shell.encode() + b"\x85R."


# ---------------------------------------------------------------------------------------------------- the opcodes


def _text(rng: np.random.Generator, text: str) -> bytes:
    raw = text.encode("utf-8", "surrogatepass")
    ways: list[Callable[[], bytes]] = [
        lambda: b"X" + struct.pack("<I", len(raw)) + raw,
        lambda: b"\x8d" + struct.pack("<Q", len(raw)) + raw,
        lambda: b"V" + text.encode("raw_unicode_escape").replace(b"\n", b"\\u000a") + b"\n",
    ]
    if len(raw) < 256:
        ways.append(lambda: b"\x8c" + bytes([len(raw)]) + raw)
    return pick(rng, ways)()


def _value(rng: np.random.Generator, value: object) -> bytes:
    if isinstance(value, str):
        return _text(rng, value)
    if isinstance(value, list):
        return b"]" + b"".join(_value(rng, v) + b"a" for v in value)
    if isinstance(value, tuple):
        return b"(" + b"".join(_value(rng, v) for v in value) + b"t"
    return pickle.dumps(value, 2)[2:-1]


def _global(rng: np.random.Generator, module: str, name: str) -> bytes:
    if chance(rng, 0.5) or "." in name:
        return _text(rng, module) + _text(rng, name) + b"\x93"
    return f"c{module}\n{name}\n".encode()


def _reduce(rng: np.random.Generator, module: str, name: str, given: Arguments) -> bytes:
    return _global(rng, module, name) + _value(rng, given) + b"R"


def _inst(rng: np.random.Generator, module: str, name: str, given: Arguments) -> bytes:
    return b"(" + b"".join(_value(rng, v) for v in given) + f"i{module}\n{name}\n".encode()


def _obj(rng: np.random.Generator, module: str, name: str, given: Arguments) -> bytes:
    return b"(" + _global(rng, module, name) + b"".join(_value(rng, v) for v in given) + b"o"


def _newobj(rng: np.random.Generator, module: str, name: str, given: Arguments) -> bytes:
    return _global(rng, module, name) + _value(rng, given) + b"\x81"


def _newobj_ex(rng: np.random.Generator, module: str, name: str, given: Arguments) -> bytes:
    return _global(rng, module, name) + _value(rng, given) + b"}\x92"


def _build(rng: np.random.Generator, module: str, name: str, given: Arguments) -> bytes:
    """An object whose __setstate__ is the call, and then a state for it."""
    holder = pick(rng, [b"cargparse\nNamespace\n)R", b"ctypes\nSimpleNamespace\n)R", b"(iargparse\nNamespace\n"])
    state = b"}" + _text(rng, "__setstate__") + _global(rng, module, name) + b"s"
    return holder + state + b"b" + (_value(rng, given[0]) if given else b"N") + b"b"


def _extension(rng: np.random.Generator, module: str, name: str, given: Arguments) -> bytes:
    code = int(rng.integers(1, 2**31 - 1))
    known = pick(rng, [b"\x82" + bytes([code % 255 + 1]), b"\x83" + struct.pack("<H", code % 65535 + 1), b""])
    return (known or b"\x84" + struct.pack("<i", code)) + _value(rng, given) + b"R"


def _persistent(rng: np.random.Generator, module: str, name: str, given: Arguments) -> bytes:
    if chance(rng, 0.4):
        return f"P{module}.{name}\n".encode()
    kind = _global(rng, module, name)  # where torch has a storage's type
    return b"(" + _text(rng, "storage") + kind + b"".join(_value(rng, v) for v in ("0", "cpu", 2**40)) + b"tQ"


FAMILIES = {
    "REDUCE": _reduce, "INST": _inst, "OBJ": _obj, "NEWOBJ": _newobj, "NEWOBJ_EX": _newobj_ex, "BUILD": _build,
    "EXT": _extension, "PERSID": _persistent,
}  # fmt: skip


def _wrapped(rng: np.random.Generator, call: bytes) -> tuple[str, bytes]:
    """The call somewhere in a pickle that looks sound."""
    honest = b"X\x01\x00\x00\x00wK\x01"
    table = b"}(U\x04dataC\x03abcU\x06labels" + call + b"u"
    ways = {
        "alone": call,
        "in a table": b"}(" + honest + _text(rng, word(rng)) + call + b"u",
        "as a key": b"}" + call + b"Ns",
        "in a list": b"](" + call * int(rng.integers(1, 4)) + b"e",
        "thrown away": call + b"0}" + honest + b"s",
        "behind a memo": call + b"\x940h\x00",
        "in CIFAR's table": table,
        "in a set": b"\x8f(" + call + b"\x90",
        "in a deep list": b"(" * 40 + call + b"l" * 40,
    }
    name = pick(rng, sorted(ways))
    body = ways[name]
    if chance(rng, 0.3):
        body = b"\x95" + struct.pack("<Q", len(body) + 1) + body
    start = pick(rng, [b"", b"\x80\x02", b"\x80\x03", b"\x80\x04", b"\x80\x05", b"\x80\xff"])
    return name, start + body + b"."


def payload(rng: np.random.Generator, yard: Yard) -> tuple[str, bytes]:
    """A pickle that would run something, and what it is."""
    known = calls(yard)
    called, family = pick(rng, sorted(known)), pick(rng, sorted(FAMILIES))
    module, _, name = called.partition(" ")
    way, data = _wrapped(rng, FAMILIES[family](rng, module, name, known[called]))
    return f"{called} by {family}, {way}", data


# ----------------------------------------------------------------------------------------------------- the files


def npy(data: bytes) -> bytes:
    """An array of objects, as NumPy would unpickle it."""
    head = "{'descr': '|O', 'fortran_order': False, 'shape': (1,), }"
    head = head.ljust(117) + "\n"
    return b"\x93NUMPY\x01\x00" + struct.pack("<H", len(head)) + head.encode() + data


def npz(data: bytes) -> bytes:
    """A zip file of such an array."""
    box = io.BytesIO()
    with zipfile.ZipFile(box, "w") as file:
        file.writestr("a.npy", npy(data))
    return box.getvalue()


def torch_zip(data: bytes, more: dict[str, bytes] | None = None, root: str = "archive") -> bytes:
    """A file as torch.save writes it, with this pickle and further members."""
    box = io.BytesIO()
    with zipfile.ZipFile(box, "w") as file:
        file.writestr(f"{root}/data.pkl", data)
        for name, content in {"byteorder": b"little", "data/0": bytes(64), "version": b"3\n", **(more or {})}.items():
            file.writestr(f"{root}/{name}", content)
    return box.getvalue()


def torch_legacy(data: bytes) -> bytes:
    """A file as torch wrote before it took zip files: magic, protocol, system, the object, and its storages."""
    magic, system = 0x1950A86A20F9469CFC6C, {"protocol_version": 1001, "little_endian": True}
    parts = [pickle.dumps(v, 2) for v in (magic, 1001, system)]
    return b"".join(parts) + data + pickle.dumps([], 2)


def script(data: bytes, yard: Yard) -> bytes:
    """A TorchScript archive whose code does something."""
    code = f"class Net(Module):\n  def forward(self, x: Tensor) -> Tensor:\n    ops.aten.save(x, {yard.canary!r})\n"
    more = {"code/__torch__.py": code.encode(), "constants.pkl": data, "code/__torch__.py.debug_pkl": data}
    return torch_zip(data, more)


def exported(data: bytes, yard: Yard) -> bytes:
    """An archive as torch.export writes it, with a pickle for its weights and one for its example inputs."""
    more = {"archive_format": b"pt2", "data/weights/model.pt": torch_zip(data), "data/sample_inputs/model.pt": data}
    return torch_zip(data, {**more, "models/model.json": b"{}"})


def pickled(rng: np.random.Generator, folder: Path, yard: Yard) -> Gift:
    """A pickle that would run code, in one of the files that hold pickles."""
    what, data = payload(rng, yard)
    makers: dict[str, Callable[[], bytes]] = {
        ".pkl": lambda: data, ".pickle": lambda: data, ".pt": lambda: torch_zip(data), ".pth": lambda:
        torch_legacy(data),
        ".bin": lambda: torch_zip(data, root=word(rng)), ".ckpt": lambda: torch_legacy(data), ".npy": lambda: npy(data),
        ".npz": lambda: npz(data), ".pt2": lambda: exported(data, yard), ".ptc": lambda: script(data, yard),
        ".joblib": lambda: data, ".pkl.gz": lambda: gzip.compress(data), ".safetensors": lambda: data,
        ".parquet": lambda: data, ".csv": lambda: data, ".png": lambda: data, ".model": lambda: torch_legacy(npz(data)),
    }  # fmt: skip
    end = pick(rng, sorted(makers))
    path = folder / f"gift{end}"
    path.write_bytes(makers[end]())
    return Gift(f"{what}, as {end}", path, ("batch", *WEIGHTS, *ANY))


def cifar_folder(rng: np.random.Generator, folder: Path, yard: Yard) -> Gift:
    """CIFAR's folder with such a pickle for a batch, or with one that asks for more than there is."""
    what, data = payload(rng, yard)
    root = folder / "cifar-10-batches-py"
    root.mkdir()
    if chance(rng, 0.3):
        what = pick(rng, sorted(PICKLES.keys() - LARGE))
        PICKLES[what](root / CIFAR_FILES[0])
        data = (root / CIFAR_FILES[0]).read_bytes() + bytes(rng.integers(0, 256, 4, dtype=np.uint8))
    for name in CIFAR_FILES:
        (root / name).write_bytes(data)
    return Gift(f"{what}, as CIFAR's batch", folder, ("cifar10", "dataset"))
