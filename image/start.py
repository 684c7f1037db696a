"""Starts `vllm serve` from one import of vLLM, with the engine's process made ready beside the server's.

Run as `start.py ARGUMENTS`, the arguments being those of `vllm serve`. vLLM's own command starts its engine
as a new Python when the server has read its arguments, and that imports all of it again. Here the process
imports what both need and forks the engine's process, before there are threads or a GPU context; then each
goes on by itself: the engine's process imports the model runner and makes the GPU's context while the server
imports its routes and reads its arguments. The model's class, which vLLM looks at in yet another new Python
when it first meets a model, is looked at in a fork.

vLLM's own command is run instead where VLLM_WORKER_MULTIPROC_METHOD says `spawn`, and where this version of
vLLM is not as expected here. An engine whose settings cannot be handed to the waiting process, and every
engine after the first, is started as vLLM does it.
"""

from __future__ import annotations

import atexit
import gc
import importlib
import multiprocessing
import os
import pickle
import sys
import traceback
from contextlib import suppress
from typing import TYPE_CHECKING, Any, NoReturn

if TYPE_CHECKING:
    from collections.abc import Callable
    from multiprocessing.connection import Connection

METHOD = "VLLM_WORKER_MULTIPROC_METHOD"
# What the engine imports once it has its settings, where the version and the platform have it.
ENGINE_MODULES = (
    "vllm.v1.executor.uniproc_executor",
    "vllm.v1.worker.gpu_worker",
    "vllm.v1.worker.gpu.model_runner",
    "vllm.v1.attention.backends.flash_attn",
    "vllm.model_executor.model_loader",
    "vllm.model_executor.models.transformers",
    "vllm.model_executor.warmup.kernel_warmup",
    "torch._inductor.compile_fx",
)


class Waiting:
    """A process that was forked early and waits for the engine's work."""

    def __init__(self) -> None:
        """Fork it."""
        context = multiprocessing.get_context("fork")
        reader, self._writer = context.Pipe(duplex=False)
        self.process = context.Process(target=_become_engine, args=(reader, self._writer), name="EngineCore")
        self.process.start()
        reader.close()
        # Registered after multiprocessing's own, so run before it, which waits for the process.
        atexit.register(self.end_unless_used)

    def hand_over(self, name: str, target: Callable[..., None], arguments: dict[str, Any]) -> bool:
        """Give it the engine's work; return False, and end it, if that cannot be sent."""
        try:
            self._writer.send((dict(os.environ), name, target, arguments))
        except (OSError, pickle.PicklingError, AttributeError, TypeError, RuntimeError):
            self.end_unless_used()
            return False
        self._writer.close()
        self.process.name = name
        return True

    def end_unless_used(self) -> None:
        """End it unless it has its work."""
        if not self._writer.closed:
            self._writer.close()
            self.process.kill()


class Engine:
    """The process of an engine, as vLLM handles it: the one that waits, or another if that cannot be used."""

    def __init__(self, waiting: Waiting, own: Any, arguments: dict[str, Any]) -> None:
        """Take over the waiting process.

        Args:
            waiting: what is to become the engine.
            own: vLLM's own choice of multiprocessing's context.
            arguments: what vLLM gives to that context's `Process`.
        """
        self._waiting = waiting
        self._own = own
        self._arguments = arguments
        self._process = waiting.process

    def start(self) -> None:
        """Hand the engine its work."""
        given = self._arguments
        if not self._waiting.hand_over(given["name"], given["target"], given["kwargs"]):
            self._process = self._own.Process(**given)
            self._process.start()

    def __getattr__(self, name: str) -> Any:
        """Be the process in everything else."""
        return getattr(self._process, name)


class Context:
    """Multiprocessing's context as vLLM chooses it, but that the first engine is already waiting."""

    def __init__(self, waiting: Waiting, choose: Callable[[], Any]) -> None:
        """Offer the waiting process to the first engine.

        Args:
            waiting: what is to become the engine.
            choose: vLLM's function that chooses the context.
        """
        self._waiting: Waiting | None = waiting
        self._choose = choose

    def Process(self, **arguments: Any) -> Any:  # noqa: N802  # multiprocessing's name
        """Make a process of an engine."""
        waiting, self._waiting = self._waiting, None
        return Engine(waiting, self._choose(), arguments) if waiting else self._choose().Process(**arguments)

    def __getattr__(self, name: str) -> Any:
        """Be the context in everything else."""
        return getattr(self._choose(), name)


def _become_engine(reader: Connection, writer: Connection) -> None:
    """Get ready, wait for the engine's work, and do it."""
    writer.close()  # so that the server's end ends the wait
    has_gpu_context = _get_ready()
    try:
        environment, name, target, arguments = reader.recv()
    except EOFError:
        return
    os.environ.clear()
    os.environ.update(environment)
    if has_gpu_context:
        os.environ[METHOD] = "spawn"  # a fork cannot use it
    multiprocessing.current_process().name = name
    gc.freeze()
    gc.enable()
    target(**arguments)


def _get_ready() -> bool:
    """Import what the engine will need and make the GPU's context; return whether that was made.

    With several GPUs each belongs to a process that the engine starts, and the engine needs no context.
    """
    for module in ENGINE_MODULES:
        with suppress(Exception):  # it fails where it is needed, or is not needed
            importlib.import_module(module)
    try:
        import torch  # noqa: PLC0415
    except ImportError:
        return False
    if torch.cuda.device_count() != 1:
        return False
    torch.cuda.set_device(0)
    torch.cuda.synchronize()
    return True


def _run_forked(function: Callable[[], Any]) -> Any:
    """Call a function in a fork, so that what it imports and changes stays there, and return its result.

    Raises:
        RuntimeError: it raised; the message has the traceback.
    """
    from vllm.plugins import load_general_plugins  # type: ignore[import-not-found]  # noqa: PLC0415

    reader, writer = multiprocessing.Pipe(duplex=False)

    def run() -> None:
        try:
            load_general_plugins()
            writer.send((function(), None))
        except BaseException:  # noqa: BLE001  # it is raised again on the other side
            writer.send((None, traceback.format_exc()))

    process = multiprocessing.get_context("fork").Process(target=run)
    process.start()
    writer.close()
    try:
        result, error = reader.recv()
    except EOFError:
        result, error = None, "it ended without a result"
    process.join()
    if error is not None:
        raise RuntimeError(f"Error raised in subprocess:\n{error}")
    return result


def _prepare() -> Callable[[], None]:
    """Import vLLM and fork the engine's process; return what serves.

    Raises:
        ImportError, AttributeError: this version of vLLM is another than this module knows.
    """
    from vllm.v1.engine import core, utils  # type: ignore[import-not-found]  # noqa: F401, PLC0415

    choose = utils.get_mp_context
    waiting = Waiting()
    try:
        from vllm.entrypoints.cli import serve  # type: ignore[import-not-found]  # noqa: PLC0415
        from vllm.entrypoints.serve.utils.api_utils import cli_env_setup  # type: ignore[import-not-found]  # noqa: PLC0415
        from vllm.model_executor.models import registry  # type: ignore[import-not-found]  # noqa: PLC0415
        from vllm.utils.argparse_utils import FlexibleArgumentParser  # type: ignore[import-not-found]  # noqa: PLC0415

        parser = FlexibleArgumentParser(prog="vllm")
        (command,) = serve.cmd_init()
        command.subparser_init(parser.add_subparsers(dest="subparser"))
    except BaseException:
        waiting.end_unless_used()
        raise
    context = Context(waiting, choose)
    utils.get_mp_context = lambda: context
    if hasattr(registry, "_run_in_subprocess"):
        registry._run_in_subprocess = _run_forked  # noqa: SLF001  # there is no other way in

    def run() -> None:
        cli_env_setup()
        arguments = parser.parse_args()
        with suppress(ImportError):
            from vllm.logger import configure_logging_from_args  # type: ignore[import-not-found]  # noqa: PLC0415

            configure_logging_from_args(arguments)
        command.validate(arguments)
        command.cmd(arguments)

    return run


def _run_vllm(arguments: list[str]) -> NoReturn:
    """Become vLLM's own command."""
    os.execvp("vllm", ["vllm", "serve", *arguments])  # noqa: S606


def main() -> None:
    """Serve with the arguments of `vllm serve`."""
    arguments = sys.argv[1:]
    if os.environ.get(METHOD) == "spawn":
        _run_vllm(arguments)
    gc.disable()  # imports leave next to no garbage, and looking for it takes a tenth of their time
    try:
        serve = _prepare()
    except (ImportError, AttributeError, ValueError) as error:
        print(f"berth: vLLM is started by its own command: {error}", flush=True)
        _run_vllm(arguments)
    sys.argv = ["vllm", "serve", *arguments]
    gc.freeze()
    gc.enable()
    serve()


if __name__ == "__main__":
    main()
