"""The command table of `polycom`; each command's module is imported only when called."""

import difflib
import importlib
import os
import sys

COMMANDS = {
    "prepare": "turn text into token shards",
    "data": "print what token shards hold, prepared or of another tool",
    "fit": "train, with validation, checkpoints and downstream tasks",
    "validate": "losses per domain of a checkpoint",
    "evaluate": "lm-eval tasks on a checkpoint",
    "lm_eval": "lm-eval's own command line, with checkpoints as --model polycom",
    "compare": "train arms that differ in the activation alone, at equal parameters, FLOPs or time",
    "generate": "continue a prompt from a checkpoint",
    "consolidate": "join a sharded checkpoint into one file",
    "analyze": "effective ranks and activations of a checkpoint; draw activations",
    "export": "write a checkpoint as a Hugging Face folder",
    "import": "read a Hugging Face folder into a run's folder",
    "report": "tables, figures and one page from runs: which activation is better, and is it real",
    "bench": "how close a run or an activation comes to what this machine can do; its fastest micro-batch",
}
MODULES = {"validate": "fit", "import": "import_"}  # commands whose module has another name


def main() -> None:
    """Runs the command named by the first argument; exits with code 2 and one line for a user's mistake."""
    command = sys.argv[1] if len(sys.argv) > 1 else "--help"
    if command in ("-h", "--help"):
        print(_help())
        return
    if command == "--version":
        from lightning_polycom import __version__

        print(__version__)
        return
    if command not in COMMANDS:
        near = difflib.get_close_matches(command, COMMANDS, n=1)
        hint = f"did you mean '{near[0]}'?" if near else f"commands: {', '.join(COMMANDS)}"
        _fail(f"unknown command '{command}'; {hint}")
    _run(command)


def _run(command: str) -> None:
    from lightning_polycom.errors import InputError

    module = importlib.import_module(f"lightning_polycom.commands.{MODULES.get(command, command)}")
    try:
        module.main()
    except InputError as error:
        _fail(str(error))
    except OSError as error:  # a path that cannot be read or written, a full disk
        if error.filename is None or error.strerror is None:
            raise
        _fail(f"{error.filename}: {error.strerror}; check the path, its permissions and the disk")
    except KeyboardInterrupt:
        print(f"polycom: {command} was interrupted", file=sys.stderr)
        sys.exit(130)  # as a shell reports it


def _fail(message: str) -> None:
    if os.environ.get("LOCAL_RANK", "0") == "0":  # every process of a run finds the same mistake
        print(f"polycom: error: {message}", file=sys.stderr)
    sys.exit(2)


def _help() -> str:
    lines = [f"  {name:<12} {text}" for name, text in COMMANDS.items()]
    return "\n".join(
        [
            "usage: polycom COMMAND [OPTIONS]",
            "",
            "Pretrain language models with polynomial activations and measure whether they are better.",
            "",
            "commands:",
            *lines,
            "",
            "polycom COMMAND --help shows a command's options.",
            "A first run: polycom fit --config configs/quickstart.yaml",
        ]
    )
