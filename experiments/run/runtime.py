"""The process around a run: compilation cache, device, versions, and how errors reach a person."""

import contextlib
import contextvars
import dataclasses
import errno
import functools
import importlib.metadata
import inspect
import io
import logging
import os
import pathlib
import platform
import shlex
import sys
import tempfile
from collections.abc import Callable, Iterator
from typing import Annotated, Any, Literal

import jax
import tyro

from attgconv_jax.kernels import computing
from attgconv_jax.kernels.settings import Precision
from experiments.run.messages import one_line, with_options
from experiments.run.stopping import Stopped

Folder = Annotated[pathlib.Path, tyro.conf.arg(metavar="DIR")]
_PRODUCTS = "Of products, for networks that have none of their own: highest is float32 on GPUs and TPUs too."
Products = Annotated[Precision | None, tyro.conf.arg(help=_PRODUCTS)]

_CACHE = (
    "Folder that keeps compiled programs, from which the next command takes them; off: none. Default: "
    "$JAX_COMPILATION_CACHE_DIR, else attgconv_jax/xla in the user's cache folder."
)
CompilationCache = Annotated[Literal["off"] | pathlib.Path | None, tyro.conf.arg(metavar="DIR|off", help=_CACHE)]

_COMMAND: contextvars.ContextVar[str | None] = contextvars.ContextVar("command", default=None)


def use_compilation_cache(choice: Literal["off"] | pathlib.Path | None = None) -> None:
    """Keeps compiled programs on disk, so that the next process that wants them does not compile them again.

    Without a choice in the folder that JAX has been told of, else in the user's cache folder. Where that cannot be
    written to, a line on standard error says so and programs are compiled as without a cache. Nothing is written before
    the first program is compiled.

    Args:
      choice: a folder, made if missing, in which ~ is the user's own; "off": programs are neither kept nor taken from
        anywhere; None: the default.
    """
    if str(choice).lower() == "off":
        jax.config.update("jax_enable_compilation_cache", False)
        jax.config.update("jax_compilation_cache_dir", None)
        return
    if choice is None and jax.config.jax_compilation_cache_dir is not None:
        _keep_all()
        return
    if choice is not None and not choice.name:
        # As an empty variable of a shell gives it.
        raise ValueError(f"compilation_cache must be a folder of its own or off, got {str(choice)!r}")
    folder = choice
    try:
        folder = choice.expanduser() if choice else _cache_home() / "attgconv_jax" / "xla"
        _check_writable(folder.absolute())
    except (OSError, RuntimeError) as error:
        advice = "--compilation-cache names another folder, or is off"
        why = "a file" if folder is not None and folder.is_file() else reason(error)
        where = "" if folder is None else f" in {folder}"
        print(f"note: compiled programs are not kept{where} ({why}); {advice}", file=sys.stderr)
        jax.config.update("jax_compilation_cache_dir", None)
        return
    jax.config.update("jax_compilation_cache_dir", str(folder.absolute()))
    _keep_all()


def _keep_all():
    """Has JAX keep what it compiles, however quickly, unless the user's environment says otherwise."""
    name = "jax_persistent_cache_min_compile_time_secs"
    if name.upper() not in os.environ:
        jax.config.update(name, 0.0)


def _check_writable(folder):
    """Raises an `OSError` where JAX could not write to a folder, or could not make it; leaves nothing behind."""
    while not folder.exists():
        folder = folder.parent
    with tempfile.TemporaryFile(dir=folder):
        pass


def _cache_home():
    """The user's cache folder as the XDG specification has it, in which a path that is not absolute does not count."""
    named = pathlib.Path(os.environ.get("XDG_CACHE_HOME", ""))
    return named if named.is_absolute() else pathlib.Path.home() / ".cache"


def describe_device() -> dict[str, str]:
    """The device at hand and the versions that ran on it."""
    device = jax.devices()[0]
    packages = ("attgconv_jax", "jax", "jaxlib", "flax", "optax", "numpy")
    return {
        "device": device.device_kind,
        "platform": device.platform,
        "cpu_count": str(os.cpu_count()),
        "python": platform.python_version(),
        **{name: importlib.metadata.version(name) for name in packages},
    }


@contextlib.contextmanager
def precision(dtype: str, products: str | None = None, own: str | None = None) -> Iterator[None]:
    """Within it JAX computes in float64 if `dtype` says so, and products are as precise as `computing` says.

    Where the network has a precision of its `own`, which goes before, a line on standard error says so.
    """
    if None not in (products, own) and products != own:
        advice = f"--precision {products} does not change that"
        print(f"note: the network has products of precision {own}, its own; {advice}", file=sys.stderr)
    with jax.enable_x64(True) if dtype == "float64" else contextlib.nullcontext(), computing(precision=products):
        yield


def command(main: Callable[[Any], None], arguments: Any) -> Callable[..., None]:
    """The command line of a module: a function of words, by default those of the process.

    An error is one line on stderr and exit code 2. Where the module is run (`python -m`), this function runs the
    command before it returns, so that `cli = command(...)` must be the module's last statement.

    Args:
      main: takes the parsed arguments; its module names the command.
      arguments: the dataclass to parse; or a function of the words that returns dataclass, defaults and other words.
    """
    cli = functools.partial(_run_command, main, arguments)
    if main.__module__ == "__main__":
        cli()
    return cli


def _run_command(main, arguments, words=None):
    prog = f"python -m {sys.modules[main.__module__].__spec__.name}"
    message = io.StringIO()
    words, default = sys.argv[1:] if words is None else words, None
    words_given = words
    try:
        if inspect.isfunction(arguments):
            arguments, default, words = arguments(words)
        with contextlib.redirect_stderr(message):
            options = dict(prog=prog, config=(tyro.conf.AvoidSubcommands,))
            parsed = tyro.cli(arguments, args=words, default=default, **options)
        _check_names_follow(parsed, words)
    except SystemExit as stop:
        if stop.code:
            print(f"error: {one_line(message.getvalue())}", file=sys.stderr)
        raise
    except (ValueError, OverflowError) as error:
        _fail(error)
    _hold_back_logs()
    given = _COMMAND.set(shlex.join([*prog.split(), *words_given]))
    try:
        main(parsed)
    except KeyboardInterrupt as stop:
        stopped = stop if isinstance(stop, Stopped) else Stopped()
        print(f"\n{stopped}", file=sys.stderr)
        sys.exit(128 + stopped.signum)
    except (ValueError, OSError, FloatingPointError) as error:
        _fail(with_options(str(error)) if hasattr(parsed, "model") else error)
    finally:
        _COMMAND.reset(given)


def _check_names_follow(parsed, words):
    """Raises a `ValueError` if nothing follows an option that takes names and has all of them by default."""
    for field in dataclasses.fields(parsed):
        flag = f"--{field.name.replace('_', '-')}"
        if getattr(parsed, field.name) == field.default == () and flag in words:
            raise ValueError(f"{field.name} must be one or more, got none: leave {flag} out for all")


def given_command() -> str | None:
    """The command that is carried out, as it was given; None where Python calls what commands call."""
    return _COMMAND.get()


def _fail(error):
    print(f"error: {' '.join(str(error).split())}", file=sys.stderr)
    sys.exit(2)


@contextlib.contextmanager
def writing(path: pathlib.Path, failures: type[Exception] = OSError) -> Iterator[None]:
    """Within it, failures become an `OSError` that says in a line why `path` cannot be written, and what to do."""
    try:
        yield
    except failures as error:
        raise OSError(
            f"cannot write to {path}: {reason(error)}; see to it, then give the same command again"
        ) from error


def reason(failure: Exception) -> str:
    """What the system said, in a line, where libraries wrap it in a page."""
    message = str(failure) or type(failure).__name__
    codes = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS, errno.EACCES, errno.EIO, errno.ENOENT, errno.ENOTDIR)
    known = [os.strerror(code) for code in codes if os.strerror(code) in message]
    return known[0] if known else message.strip().splitlines()[0][:100]


def _hold_back_logs():
    """Keeps Orbax from writing pages on a failure that is reported in a line.

    For good: writes beside a failed one end later, after Orbax has closed its event loop, even at the process' end.
    """
    for name in ("absl", "asyncio"):
        logging.getLogger(name).setLevel(logging.CRITICAL)
    report = sys.unraisablehook
    if getattr(report, "ignores_stragglers", False):
        return

    def hook(unraisable):
        if str(unraisable.exc_value) != "Event loop is closed":
            report(unraisable)

    hook.ignores_stragglers = True
    sys.unraisablehook = hook
