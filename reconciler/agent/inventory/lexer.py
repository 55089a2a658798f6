"""nginx's configuration language: text to words and blocks, as ngx_conf_read_token (src/core/ngx_conf_file.c) reads it.

The parser keeps a stack of its own, so that a file of a million `{` costs memory and not the process. Messages name lines
and never repeat what stands there: it may be a secret, or no configuration at all.
"""

from typing import Iterator, List, NamedTuple, Optional

MOST_WORDS = 200000
MOST_DEPTH = 64
_SPACE = " \t\r\n"
_ESCAPED = {"t": "\t", "r": "\r", "n": "\n"}


class Broken(Exception):
    """The text is no configuration; the message says where and what is missing."""


class Word(NamedTuple):
    """A word, or one of `;`, `{` and `}` when `sign`. `line` from 1."""

    text: str
    line: int
    sign: bool


class Directive:
    """A name with its arguments; `block` is None for one that ends with a semicolon."""

    def __init__(self, words: List[Word], *, block: bool) -> None:
        self.name = words[0].text
        self.args = [word.text for word in words[1:]]
        self.line = words[0].line
        self.block: Optional[List[Directive]] = [] if block else None


class _Lexer:
    def __init__(self, text: str) -> None:
        self._text = text
        self._at = 0
        self._line = 1

    def words(self) -> Iterator[Word]:
        text, size = self._text, len(self._text)
        name = ""
        while self._at < size:
            sign = text[self._at]
            if sign in _SPACE:
                self._line += sign == "\n"
                self._at += 1
            elif sign == "#":
                end = text.find("\n", self._at)
                self._at = size if end < 0 else end
            elif sign in ";{}":
                self._at += 1
                yield Word(sign, self._line, sign=True)
                if sign == "{" and name.endswith("_by_lua_block"):
                    self._skip_lua()
                name = ""
            else:
                line = self._line
                word = self._quoted(sign) if sign in "\"'" else self._bare()
                name = name or word
                yield Word(word, line, sign=False)

    def _quoted(self, quote: str) -> str:
        line, text = self._line, self._text
        parts: List[str] = []
        self._at += 1
        while self._at < len(text):
            sign = text[self._at]
            self._at += 1
            if sign == quote:
                return "".join(parts)
            self._line += sign == "\n"
            if sign == "\\" and self._at < len(text):
                sign = self._escape()
            parts.append(sign)
        raise Broken("line {}: a quote is not closed".format(line))

    def _escape(self) -> str:
        sign = self._text[self._at]
        self._at += 1
        self._line += sign == "\n"
        if sign in "\"'\\":
            return sign
        return _ESCAPED.get(sign, "\\" + sign)

    def _bare(self) -> str:
        text = self._text
        parts: List[str] = []
        while self._at < len(text):
            sign = text[self._at]
            if sign in _SPACE or sign in ";{":
                break
            self._at += 1
            if sign == "\\" and self._at < len(text):
                sign = self._escape()
            elif sign == "$" and text[self._at : self._at + 1] == "{":
                sign = "${"
                self._at += 1
            parts.append(sign)
        return "".join(parts)

    def _skip_lua(self) -> None:
        """To the brace that ends a block of Lua; one within a string of Lua counts like any other (as OpenResty's own
        lexer does better, what follows may be reported as broken, and nothing worse)."""
        depth, text = 1, self._text
        while self._at < len(text):
            sign = text[self._at]
            self._line += sign == "\n"
            depth += (sign == "{") - (sign == "}")
            if depth == 0:
                return
            self._at += 1


def parse(text: str) -> List[Directive]:
    """The directives of a file, includes not followed. Raises Broken."""
    top: List[Directive] = []
    open_blocks = [top]
    words: List[Word] = []
    last = 1
    for number, word in enumerate(_Lexer(text).words()):
        last = word.line
        if number > MOST_WORDS:
            raise Broken("more than {} words".format(MOST_WORDS))
        if not word.sign:
            words.append(word)
        elif word.text == "}":
            if words:
                raise Broken("line {}: a directive is not ended by a semicolon".format(word.line))
            if len(open_blocks) == 1:
                raise Broken("line {}: a brace closes nothing".format(word.line))
            open_blocks.pop()
        else:
            if not words:
                raise Broken("line {}: a {} without a directive".format(word.line, word.text))
            made = Directive(words, block=word.text == "{")
            open_blocks[-1].append(made)
            words = []
            if made.block is not None:
                open_blocks.append(made.block)
                if len(open_blocks) > MOST_DEPTH:
                    raise Broken(
                        "line {}: more than {} blocks within each other".format(word.line, MOST_DEPTH)
                    )
    if words or len(open_blocks) > 1:
        raise Broken("line {}: the file ends within a {}".format(last, "directive" if words else "block"))
    return top
