"""The application: its commands, and the one way in, which turns every error into a sentence and an exit code."""

from __future__ import annotations

import os
import sys
import traceback

from cyclopts import App, CycloptsError, Parameter

from ..errors import ConvscopeError, MemoryExhausted, StorageError, UsageError
from ..options import STANDARD_INPUT
from ..processes import is_launched
from ..spoken import typed
from ..terminal import guarded_output, signal_number, terminations
from ..version import __version__
from ..visible import visible
from .commands import COMMANDS

SPINS = "1000"  # rounds that a thread waits before it sleeps

app = App(
    name="convscope",
    version=__version__,
    help="Train convolutional image classifiers, see honestly how good they are and what each filter learned. "
    "Start with: convscope demo",
    default_parameter=Parameter(negative_iterable=()),
    suppress_keyboard_interrupt=False,  # run() has a sentence for it
)
for name, command in COMMANDS.items():
    app.command(command, name=name)


def main(arguments: list[str] | None = None) -> None:
    """Run one command and end the process with its exit code."""
    sys.exit(run(sys.argv[1:] if arguments is None else arguments))


def run(arguments: list[str]) -> int:
    """Run one command; returns its exit code. A user's error is one sentence on standard error, never a traceback."""
    _wait_asleep()
    arguments = [STANDARD_INPUT if a == "-" else a for a in arguments]  # to the parser "-" is an unknown option
    try:
        with guarded_output(), terminations(), typed():
            return _run(arguments)
    except StorageError as error:  # of the output itself
        return _complain(str(error), error.exit_code)


def _wait_asleep() -> None:
    """Let torch's threads sleep where they have nothing to do, unless the user has said how they wait.

    By default libgomp's spin: beside another busy process that costs most of the speed (bench/threads.py), and on two
    processors of one core each takes from the other. Read when torch is loaded, which is after this.
    """
    os.environ.setdefault("TORCH_CPP_LOG_LEVEL", "ERROR")  # what does not end a command is told by it, or by nobody
    if "OMP_WAIT_POLICY" not in os.environ:
        os.environ.setdefault("GOMP_SPINCOUNT", SPINS)


def _run(arguments: list[str]) -> int:
    try:
        _check_launched(arguments)
        code = app(arguments, exit_on_error=False, print_error=False, result_action="return_value")
        return code if isinstance(code, int) else 0
    except CycloptsError as error:
        return _complain(" ".join(str(error).split()), 2)
    except ConvscopeError as error:
        return _complain(str(error), error.exit_code)
    except KeyboardInterrupt as error:
        code = 128 + signal_number(error)
        return code if _is_ended_by_torchrun() else _complain("interrupted.", code)
    except OSError as error:
        where = f"{error.filename}: " if error.filename else ""
        return _complain(f"{where}{(error.strerror or str(error)).lower()}.", StorageError.exit_code)
    except Exception as error:
        if isinstance(error, RuntimeError) and "can't start new thread" in str(error).lower():
            return _complain(
                "the system lets this process start no more threads: end others, or raise the limit (ulimit -u).",
                MemoryExhausted.exit_code,
            )
        if _out_of_memory(error):
            return _complain(_too_large(arguments), MemoryExhausted.exit_code)
        return _complain(_report_bug(), 1)


def _command_in(arguments: list[str]) -> str | None:
    return next((a for a in arguments if a in COMMANDS), None)


def _check_launched(arguments: list[str]) -> None:
    """UsageError where several processes would each do the whole of a command's work."""
    command = _command_in(arguments)
    if is_launched() and command not in (None, "train") and not {"--help", "-h"} & set(arguments):
        raise UsageError(f"{command} is not shared by torchrun's processes, of which each would do it: start it once.")


def _is_ended_by_torchrun() -> bool:
    """Whether torchrun ends this process because another came to its end, which has said why."""
    return "TORCHELASTIC_RUN_ID" in os.environ and os.environ.get("RANK", "0") != "0"


def _complain(sentence: str, code: int) -> int:
    print(f"convscope: {visible(sentence)}", file=sys.stderr)
    return code


def _out_of_memory(error: Exception) -> bool:
    words = str(error).lower()
    return (
        isinstance(error, MemoryError)
        or type(error).__name__ == "OutOfMemoryError"
        or (isinstance(error, RuntimeError) and ("not enough memory" in words or "can't allocate memory" in words))
    )


def _too_large(arguments: list[str]) -> str:
    """Say what takes less memory, by the options that this command has."""
    command = _command_in(arguments)
    arguments_of = app[command].assemble_argument_collection() if command else ()
    taken = {name for argument in arguments_of for name in argument.names}
    smaller = [option for option in ("--batch-size", "--image-size") if option in taken]
    way = f"try a smaller {' or '.join(smaller)}" if smaller else "end other programs, or take a machine with more"
    return f"the work does not fit in memory: {way}."


def _report_bug() -> str:
    from ..cache import cache_folder
    from ..storage import commit_text

    try:
        path = cache_folder() / "error.log"
        commit_text(path, traceback.format_exc())
    except Exception:  # what broke the command may break this too
        traceback.print_exc()
        return "this is a bug of convscope, not yours; what it met stands above."
    return f"this is a bug of convscope, not yours; what it met is in {path}."
