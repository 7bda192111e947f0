"""Draw the README's picture: run the commands on a pseudo-terminal and render what they print.

python docs/make_terminal_svg.py OUT.svg 'edge inspect ...' 'edge detect ...'
"""

from __future__ import annotations

import io
import os
import pty
import re
import struct
import subprocess
import sys
import termios
from fcntl import ioctl
from pathlib import Path

from rich.console import Console
from rich.terminal_theme import MONOKAI
from rich.text import Text

WIDTH = 100


def printed(command: str) -> str:
    """Return what a command prints on a terminal of `WIDTH` columns, colours included."""
    ours, theirs = pty.openpty()
    ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 40, WIDTH, 0, 0))
    environment = {**os.environ, "TERM": "xterm-256color", "COLUMNS": str(WIDTH)}
    with subprocess.Popen(command, shell=True, stdout=theirs, stderr=theirs, stdin=theirs, env=environment) as process:
        os.close(theirs)
        said = b""
        while True:
            try:
                chunk = os.read(ours, 65536)
            except OSError:  # the terminal closes with the process
                break
            if not chunk:
                break
            said += chunk
        os.close(ours)
    if process.returncode:
        sys.exit(f"{command} ended with {process.returncode}: {said.decode(errors='replace')}")
    return said.decode(errors="replace").replace("\r\n", "\n")


def settled(text: str) -> list[str]:
    """Return the lines that stay: a progress bar moves the cursor up and erases itself."""
    lines: list[str] = []
    for line in text.split("\n"):
        if "\x1b[2K" in line or "\x1b[1A" in line or "\r" in line:
            line = line.rsplit("\x1b[2K", 1)[-1]
            if not line.strip("\r"):
                continue
        if re.search("[\u2801-\u28ff]", line):  # a spinner
            continue
        lines.append(line.replace("\x1b[?25l", "").replace("\x1b[?25h", ""))
    return lines


def main() -> None:
    """Run and draw."""
    out, *commands = sys.argv[1:]
    console = Console(record=True, width=WIDTH, file=io.StringIO(), force_terminal=True)
    for number, command in enumerate(commands):
        if number:
            console.print()
        console.print(Text.assemble(("$ ", "green"), command))
        for line in settled(printed(command)):
            if line.strip():
                console.print(Text.from_ansi(line))
    drawn = console.export_svg(title="edge", theme=MONOKAI)
    # rich links a web font; the picture shall ask nobody for anything.
    Path(out).write_text(re.sub(r"@font-face \{.*?\}", "", drawn, flags=re.DOTALL), encoding="utf-8")


if __name__ == "__main__":
    main()
