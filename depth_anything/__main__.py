"""The command `depth-anything`, also as `python -m depth_anything`.

Exit codes: 0 all done; 1 some inputs failed, the rest is done; 2 bad options, or every input failed.
"""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Sequence

import tyro

from depth_anything import __version__
from depth_anything.cli.calibrate import calibrate
from depth_anything.cli.controlnet import controlnet
from depth_anything.cli.data import data
from depth_anything.cli.evaluate import evaluate
from depth_anything.cli.exits import Failed
from depth_anything.cli.export import export
from depth_anything.cli.finetune import finetune
from depth_anything.cli.label import label
from depth_anything.cli.misspelt import check_words, with_new_spellings
from depth_anything.cli.models import models
from depth_anything.cli.options import tell_of_idle_devices
from depth_anything.cli.page import page
from depth_anything.cli.predict import predict
from depth_anything.cli.render import render
from depth_anything.cli.segment import segment
from depth_anything.cli.serve import serve
from depth_anything.cli.train import train
from depth_anything.cli.video import video

COMMANDS = (
    predict,
    video,
    calibrate,
    models,
    render,
    data,
    train,
    finetune,
    label,
    evaluate,
    export,
    segment,
    controlnet,
    serve,
    page,
)


DESCRIPTION = """Depth Anything V1 and V2: prediction, video, training, labelling, evaluation, export, serving.

depth-anything COMMAND --help describes a command; depth-anything --version prints the version.

Shell completion: depth-anything --tyro-print-completion bash (zsh, fish); see docs/quickstart.md."""


def main(arguments: Sequence[str] | None = None) -> None:
    """Entry point: run a command and exit with its exit code."""
    arguments = list(sys.argv[1:] if arguments is None else arguments)
    try:
        run(arguments or ["--help"])
        sys.stdout.flush()
    except Failed as failed:
        sys.exit(failed.code)
    except BrokenPipeError:  # `depth-anything models | head -1`: the reader has closed the pipe
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # or the interpreter reports it again at exit
        sys.exit(141)  # the exit code of a process that SIGPIPE ended
    except (ValueError, ImportError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(2)
    except KeyboardInterrupt:
        print("interrupted; all files written so far are complete, run the command again for the rest", file=sys.stderr)
        sys.exit(130)


def run(arguments: Sequence[str]) -> None:
    """Run one command line; errors are raised as by the commands."""
    if arguments[0] == "--version":
        print(__version__)
        return
    arguments = with_new_spellings(arguments)
    check_words(arguments, COMMANDS)
    tell_of_idle_devices(arguments)
    app = tyro.extras.SubcommandApp()
    for command in COMMANDS:
        # The text of an option on one line: the help wraps it again, and shells complete line by line.
        command.__doc__ = re.sub(r"\n {12,}", " ", command.__doc__ or "")
        app.command(command)
    app.cli(prog="depth-anything", description=DESCRIPTION, args=arguments, config=(tyro.conf.FlagCreatePairsOff,))


if __name__ == "__main__":
    main()
