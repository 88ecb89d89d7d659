"""`selfreward serve`: the pages, on this machine unless said otherwise."""

from pathlib import Path
from typing import Annotated

import typer

from selfreward.cli.options import DATA, Dir, RunName, open_store, settings_of

PORT = 8321

commands = typer.Typer()


@commands.command(rich_help_panel=DATA)
def serve(
    directory: Dir = Path(),
    run_name: RunName = None,
    host: Annotated[str, typer.Option(help="Address to listen on.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=0, max=65535, help="Port; 0 takes a free one.")] = PORT,
    token: Annotated[
        str | None,
        typer.Option(
            envvar="SELFREWARD_TOKEN",
            show_envvar=True,
            help="Lets whoever knows it pause, resume and stop the daemon from a page.",
        ),
    ] = None,
    allow_host: Annotated[
        list[str] | None,
        typer.Option(metavar="NAME", help="A name by which this machine may be asked (repeatable)."),
    ] = None,
    access_log: Annotated[bool, typer.Option("--access-log", help="Log each request.")] = False,
) -> None:
    """Show runs, iterations, prompts and SQL in a browser. It reads; the daemon need not run.

    Pages are for this machine only: 127.0.0.1, asked for by that name or as localhost. From another one
    tunnel to it (`ssh -L 8321:localhost:8321 host`), or name an address and every name it goes by:
    whoever reaches that port reads everything.

    Examples:

        selfreward serve

        selfreward serve --dir runs/demo --port 0

        SELFREWARD_TOKEN=$(openssl rand -hex 16) selfreward serve

        selfreward serve --host 0.0.0.0 --allow-host gpu1.example
    """
    from selfreward.web import serving

    settings = settings_of(directory)
    store = open_store(settings, directory, check=False)
    try:
        site = serving.site(store, settings, directory, host, tuple(allow_host or ()), token)
        serving.serve(site, host, port, access_log)
    finally:
        store.close()
