"""``orchestrate``: verbs → one call each; errors → message and exit code."""

from __future__ import annotations

import gc
import os
import sys

import typer

from orchestrator.cli import central, deploy, file, job, login, look, rehearse, site, software, transfer
from orchestrator.errors import GridError, TemporaryError

app = typer.Typer(
    name="orchestrate",
    no_args_is_help=True,
    rich_markup_mode="markdown",
    pretty_exceptions_enable=False,
    help="Deploy a scientific grid from one `site.yaml` and keep it right.\n\n"
    "Start with `orchestrate up site.yaml`; then `orchestrate job submit hello.jdl --watch`.",
    epilog="Exit codes: 0 done, 2 something to mend in the input, 3 try again, 4 failed, 130 interrupted.",
)
for part in (deploy, look, rehearse, site, central, job, file, transfer, software, login):
    part.register(app)


def run() -> None:
    """The console script. The last line of defence: nobody sees a traceback unless they ask for it."""
    gc.set_threshold(100_000)  # importing makes many objects and no garbage
    try:
        app()
    except GridError as error:
        if os.environ.get("ORCHESTRATE_DEBUG"):
            raise
        _tell(error)
        sys.exit(error.exit_code)
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(0)
    finally:
        gc.freeze()  # the process ends: to look through all modules for garbage once more takes 0.2 s


def _tell(error: GridError) -> None:
    from rich.console import Console
    from rich.text import Text

    from orchestrator.site.load import SiteErrors

    console = Console(stderr=True)
    if isinstance(error, SiteErrors):
        console.print(site.render(error), soft_wrap=True)
        return
    console.print(Text.assemble(("error: ", "bold red"), error.message), soft_wrap=True)
    if isinstance(error, TemporaryError):
        console.print(Text("this may pass; try again", "dim"))


if __name__ == "__main__":
    run()
