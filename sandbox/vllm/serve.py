"""The sandbox's `vllm serve`: vLLM's own server, started so that several fit on a machine of few cores.

Runs in vLLM's environment. It differs from the image's command in how it starts, not in what it serves:

- the engine and its worker are forked from the server instead of starting Python and importing vLLM anew
  (which vLLM does on GPUs too; on a CPU it does not, because of thread binding, which the sandbox turns off);
- models run eagerly: compiling one takes longer than a test needs it.
"""

from __future__ import annotations

import gc
import multiprocessing
import os
import sys
import warnings
from pathlib import Path


def _preload_openmp() -> None:
    """Start again with PyTorch's own OpenMP preloaded, as vLLM has it in the processes that it spawns."""
    import importlib.util  # noqa: PLC0415

    spec = importlib.util.find_spec("torch")
    if spec is None or spec.origin is None or "libgomp" in os.environ.get("LD_PRELOAD", ""):
        return
    library = next((Path(spec.origin).parent / "lib").glob("libgomp*.so*"), None)
    if library is not None:
        os.environ["LD_PRELOAD"] = str(library)
        os.execv(sys.executable, [sys.executable, *sys.orig_argv[1:]])  # noqa: S606


def main() -> None:
    """Serve with the arguments that `vllm serve` takes."""
    if sys.argv[1:2] != ["serve"]:
        sys.exit(f"vllm: the sandbox has only `vllm serve`, not `vllm {' '.join(sys.argv[1:2])}`")
    _preload_openmp()
    arguments = sys.argv[2:]
    if not {"--enforce-eager", "--no-enforce-eager"} & set(arguments):
        arguments.append("--enforce-eager")
    warnings.filterwarnings("ignore", category=DeprecationWarning)
    gc.disable()  # imports leave next to no garbage, and looking for it takes a fifth of their time
    from vllm.utils import system_utils  # type: ignore[import-not-found]  # noqa: PLC0415

    system_utils.get_mp_context = lambda: multiprocessing.get_context("fork")

    import uvloop  # noqa: PLC0415
    from vllm.entrypoints.launchers.api_server.entry import run_server  # type: ignore[import-not-found]  # noqa: PLC0415
    from vllm.entrypoints.launchers.cli_args import make_arg_parser, validate_parsed_serve_args  # type: ignore[import-not-found]  # noqa: PLC0415
    from vllm.entrypoints.serve.utils.api_utils import cli_env_setup  # type: ignore[import-not-found]  # noqa: PLC0415
    from vllm.logger import configure_logging_from_args  # type: ignore[import-not-found]  # noqa: PLC0415
    from vllm.utils.argparse_utils import FlexibleArgumentParser  # type: ignore[import-not-found]  # noqa: PLC0415

    gc.freeze()
    gc.enable()
    cli_env_setup()
    parser = make_arg_parser(FlexibleArgumentParser(prog="vllm serve"))
    parsed = parser.parse_args(arguments)
    if parsed.model_tag is not None:
        parsed.model = parsed.model_tag
    configure_logging_from_args(parsed)
    validate_parsed_serve_args(parsed)
    uvloop.run(run_server(parsed))


if __name__ == "__main__":
    main()
