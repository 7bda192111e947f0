"""The `edge` command: registers the subcommands, and turns errors into one line and an exit code."""

from __future__ import annotations

import logging
import os
import sys
from typing import Annotated, Any

import typer
from typer.core import TyperGroup

from edge import __version__
from edge.cli import interrupt
from edge.cli.benchmark import benchmark
from edge.cli.classify import classify
from edge.cli.config import app as config
from edge.cli.convert import convert
from edge.cli.detect import detect
from edge.cli.doctor import doctor
from edge.cli.evaluate import evaluate
from edge.cli.inspect import inspect
from edge.cli.models import app as models
from edge.cli.run import run
from edge.cli.service import app as service
from edge.cli.train import app as train
from edge.cli.train_detector import detector
from edge.cli.tune import tune
from edge.cli.verify import verify
from edge.errors import EdgeError, InputError

# typer carries a copy of click in newer versions and imports it in older ones; this is UsageError of either.
_UsageError: Any = typer.BadParameter.__base__

# OpenCV's and FFmpeg's own complaints would stand beside our one line that says the same; set before they load.
os.environ.setdefault("OPENCV_LOG_LEVEL", "ERROR")
os.environ.setdefault("OPENCV_FFMPEG_LOGLEVEL", "-8")


class _Commands(TyperGroup):
    """The one boundary where an error becomes a line on stderr and an exit code."""

    def invoke(self, ctx: Any) -> Any:
        """Run a subcommand."""
        try:
            interrupt.end()
            return super().invoke(ctx)
        except EdgeError as error:
            print(f"edge: {error}", file=sys.stderr)
            raise SystemExit(error.exit_code) from error
        except _UsageError as error:
            command = getattr(getattr(error, "ctx", None), "command_path", "edge")
            said = error.format_message().rstrip(".").replace("Value error, ", "")
            print(f"edge: {said}; {command} --help lists what there is", file=sys.stderr)
            raise SystemExit(EdgeError.exit_code) from error
        except KeyboardInterrupt as error:
            print("edge: interrupted", file=sys.stderr)
            raise SystemExit(interrupt.INTERRUPTED) from error
        except BrokenPipeError as error:
            # The reader of our stdout went away (`| head`). Python would complain again when it flushes at exit.
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            raise SystemExit(0) from error
        except OSError as error:
            # A path that cannot even be asked for: too long, or below a folder that may not be entered.
            if error.filename is None:
                raise
            logging.debug("the error was here", exc_info=True)
            print(f"edge: {InputError(f'{os.fsdecode(error.filename)}: {error.strerror}')}", file=sys.stderr)
            raise SystemExit(InputError.exit_code) from error


app = typer.Typer(
    name="edge",
    cls=_Commands,
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode="rich",
    help="Object detection on edge devices: convert a trained model to one .tflite, run it on cameras and files.",
)
app.command(rich_help_panel="On the device")(detect)
app.command(rich_help_panel="On the device")(classify)
app.command(rich_help_panel="On the device")(run)
app.add_typer(config, name="config", rich_help_panel="On the device")
app.command(rich_help_panel="On the device")(inspect)
app.command(rich_help_panel="On the device")(benchmark)
app.command(rich_help_panel="On the device")(tune)
app.command(rich_help_panel="On the device")(evaluate)
app.command(rich_help_panel="On the device")(verify)
app.command(rich_help_panel="On the device")(doctor)
app.add_typer(service, name="service", rich_help_panel="On the device")
app.command(rich_help_panel="On the workstation")(convert)
train.command()(detector)
app.add_typer(train, name="train", rich_help_panel="On the workstation")
app.add_typer(models, name="models", rich_help_panel="On the workstation")


def _version(show: bool) -> None:
    if show:
        print(f"edge {__version__}")
        raise typer.Exit


@app.callback()
def _options(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version.")
    ] = False,
    verbose: Annotated[bool, typer.Option("--verbose", "-v", help="Log what happens to stderr.")] = False,
) -> None:
    logging.basicConfig(
        level=logging.DEBUG if verbose else logging.WARNING,
        stream=sys.stderr,
        format="edge: %(levelname)s: %(message)s",
    )
