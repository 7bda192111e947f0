"""Where each key of a TOML text stands: Python's own reader does not say."""

from __future__ import annotations

import re

Key = tuple[str | int, ...]
"""The way to a key from the top: names of tables and keys, indices of arrays."""

_BARE = re.compile(r"[A-Za-z0-9_-]+")
_SPACE = re.compile(r"(?:[ \t\r\n]|#[^\n]*)*")
_STRING = re.compile(
    r'"""(?:\\.|[^\\])*?"{3,5}(?!")|\'\'\'.*?\'{3,5}(?!\')|"(?:\\.|[^"\\\n])*"|\'[^\'\n]*\'', re.DOTALL
)
_SCALAR = re.compile(r"[^,\]}\n#]+")
_ESCAPE = re.compile(r"\\(u[0-9a-fA-F]{4}|U[0-9a-fA-F]{8}|.)", re.DOTALL)
_LONGEST_KEY = 100
"""Names with dots between them; each of their beginnings is a key, too."""
_PLAIN = {"b": "\b", "t": "\t", "n": "\n", "f": "\f", "r": "\r"}


def key_lines(text: str) -> dict[Key, int]:
    """Return the line, from 1, of each key and table header.

    Args:
        text: A TOML text that `tomllib` has read without complaint. Of another one some keys are missing.
    """
    scanner = _Scanner(text)
    try:
        scanner.run()
    except (IndexError, ValueError, RecursionError):
        pass  # not TOML after all: what was found so far is right
    return scanner.lines


def line_of(lines: dict[Key, int], key: Key) -> int | None:
    """Return the line of a key, or of the nearest table around it; None where neither stands anywhere."""
    while key:
        if key in lines:
            return lines[key]
        key = key[:-1]
    return None


class _Scanner:
    """Walks over the text once; every step moves forward, so that it ends."""

    def __init__(self, text: str) -> None:
        self.lines: dict[Key, int] = {}
        self._text = text
        self._at = 0
        self._counted_to, self._line = 0, 1
        self._arrays: dict[Key, int] = {}

    def run(self) -> None:
        table: Key = ()
        self._space()
        while self._at < len(self._text):
            if self._text[self._at] == "[":
                table = self._header()
            else:
                self._pair(table)
            self._space()

    def _space(self) -> None:
        match = _SPACE.match(self._text, self._at)
        assert match is not None
        self._at = match.end()

    def _expect(self, character: str) -> None:
        if self._text[self._at] != character:
            raise ValueError(character)
        self._at += 1

    def _note(self, key: Key) -> None:
        self._line += self._text.count("\n", self._counted_to, self._at)
        self._counted_to = self._at
        self.lines.setdefault(key, self._line)

    def _header(self) -> Key:
        array = self._text.startswith("[[", self._at)
        self._at += 2 if array else 1
        self._space()
        start = self._at
        names = self._dotted()
        # A table of an array is the last one that was begun.
        key: Key = ()
        for i, name in enumerate(names):
            key = (*key, name)
            if key in self._arrays and not (array and i == len(names) - 1):
                key = (*key, self._arrays[key])
        if array:
            self._arrays[key] = self._arrays.get(key, -1) + 1
            key = (*key, self._arrays[key])
        end, self._at = self._at, start
        for length in range(1, len(key) + 1):
            self._note(key[:length])
        self._at = end
        self._expect("]")
        if array:
            self._expect("]")
        return key

    def _dotted(self) -> list[str]:
        names = [self._name()]
        self._space()
        while self._text[self._at] == ".":
            self._at += 1
            self._space()
            names.append(self._name())
            self._space()
            if len(names) > _LONGEST_KEY:
                raise ValueError("key")
        return names

    def _name(self) -> str:
        if self._text[self._at] in "\"'":
            match = _STRING.match(self._text, self._at)
            if match is None:
                raise ValueError("string")
            self._at = match.end()
            inner = match[0][1:-1]
            return _ESCAPE.sub(_unescape, inner) if match[0][0] == '"' else inner
        match = _BARE.match(self._text, self._at)
        if match is None:
            raise ValueError("key")
        self._at = match.end()
        return match[0]

    def _pair(self, table: Key) -> None:
        start = self._at
        key = (*table, *self._dotted())
        end, self._at = self._at, start
        for length in range(len(table) + 1, len(key) + 1):
            self._note(key[:length])
        self._at = end
        self._expect("=")
        self._space()
        self._value(key)

    def _value(self, key: Key) -> None:
        opening = self._text[self._at]
        if opening == "{":
            self._group("}", lambda index: self._pair(key))
        elif opening == "[":
            self._group("]", lambda index: self._item(key, index))
        elif opening in "\"'":
            match = _STRING.match(self._text, self._at)
            if match is None:
                raise ValueError("string")
            self._at = match.end()
        else:
            match = _SCALAR.match(self._text, self._at)
            if match is None:
                raise ValueError("value")
            self._at = match.end()

    def _item(self, key: Key, index: int) -> None:
        self._note((*key, index))
        self._value((*key, index))

    def _group(self, closing: str, read: object) -> None:
        assert callable(read)
        self._at += 1
        self._space()
        index = 0
        while self._text[self._at] != closing:
            read(index)
            index += 1
            self._space()
            if self._text[self._at] == ",":
                self._at += 1
                self._space()
        self._at += 1


def _unescape(match: re.Match[str]) -> str:
    code = match[1]
    if code[0] in "uU" and len(code) > 1:
        return chr(int(code[1:], 16))
    return _PLAIN.get(code, code)
