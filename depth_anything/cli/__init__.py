"""The command `depth-anything`: a module per command, one function each, heavy imports inside.

Exit codes: 0 all done; 1 some inputs failed, the rest is done; 2 bad options, or every input failed.
"""

from __future__ import annotations

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
from depth_anything.cli.models import models
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
)


def main(arguments: Sequence[str] | None = None) -> None:
    """Entry point: runs a command and leaves with its exit code."""
    arguments = list(sys.argv[1:] if arguments is None else arguments)
    if arguments == ["--version"]:
        print(__version__)
        return
    app = tyro.extras.SubcommandApp()
    for command in COMMANDS:
        app.command(command)
    try:
        app.cli(
            prog="depth-anything",
            description="Depth Anything V1 and V2, complete.",
            args=arguments,
            config=(tyro.conf.FlagCreatePairsOff,),
        )
    except Failed as failed:
        sys.exit(failed.code)
    except (ValueError, ImportError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(2)
    except KeyboardInterrupt:
        print("stopped; what is written is whole, run the command again for the rest", file=sys.stderr)
        sys.exit(130)
