"""The application: its commands, and the one way in, which turns every error into a sentence and an exit code."""

from __future__ import annotations

import sys
import traceback

from cyclopts import App, CycloptsError, Parameter

from ..errors import ConvscopeError, MemoryExhausted, StorageError
from ..options import STANDARD_INPUT
from ..version import __version__
from .commands import COMMANDS

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
    arguments = [STANDARD_INPUT if a == "-" else a for a in arguments]  # to the parser "-" is an unknown option
    try:
        code = app(arguments, exit_on_error=False, print_error=False, result_action="return_value")
        return code if isinstance(code, int) else 0
    except CycloptsError as error:
        return _complain(" ".join(str(error).split()), 2)
    except ConvscopeError as error:
        return _complain(str(error), error.exit_code)
    except KeyboardInterrupt:
        return _complain("interrupted.", 130)
    except BrokenPipeError:
        sys.stderr.close()  # the reader left; Python would complain at exit
        return 0
    except OSError as error:
        where = f"{error.filename}: " if error.filename else ""
        return _complain(f"{where}{(error.strerror or str(error)).lower()}.", StorageError.exit_code)
    except Exception as error:
        if _out_of_memory(error):
            return _complain(
                "the work does not fit in memory: try a smaller --batch-size or --image-size.",
                MemoryExhausted.exit_code,
            )
        return _complain(_report_bug(), 1)


def _complain(sentence: str, code: int) -> int:
    print(f"convscope: {sentence}", file=sys.stderr)
    return code


def _out_of_memory(error: Exception) -> bool:
    words = str(error).lower()
    return (
        isinstance(error, MemoryError)
        or type(error).__name__ == "OutOfMemoryError"
        or (isinstance(error, RuntimeError) and ("not enough memory" in words or "can't allocate memory" in words))
    )


def _report_bug() -> str:
    from ..storage import cache_folder, commit_text

    path = cache_folder() / "error.log"
    try:
        commit_text(path, traceback.format_exc())
    except ConvscopeError:
        traceback.print_exc()
        return "this is a bug of convscope, not yours; what it met stands above."
    return f"this is a bug of convscope, not yours; what it met is in {path}."
