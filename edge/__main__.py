"""Where the `edge` command and `python -m edge` start."""

from edge.cli import interrupt


def main() -> None:
    """Run the command line."""
    interrupt.begin()
    from edge.cli.app import app

    try:
        app(prog_name="edge")
    except SystemExit as end:
        from edge.cli.running import end_if_hanging

        end_if_hanging(end.code)
        raise


if __name__ == "__main__":
    main()
