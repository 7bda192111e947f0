"""Where the `edge` command and `python -m edge` start."""

import signal


def main() -> None:
    """Run the command line."""
    # Until the command line can turn Ctrl-C into one line, let it end the process without a traceback.
    handler = signal.getsignal(signal.SIGINT)
    if handler is signal.default_int_handler:
        signal.signal(signal.SIGINT, signal.SIG_DFL)
    from edge.cli.app import app

    if handler is signal.default_int_handler:
        signal.signal(signal.SIGINT, handler)
    try:
        app(prog_name="edge")
    except SystemExit as end:
        from edge.cli.running import end_if_hanging

        end_if_hanging(end.code)
        raise


if __name__ == "__main__":
    main()
