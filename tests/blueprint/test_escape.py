"""No value ends the place it stands in: each format's own reading rules give back exactly the value, or nothing is written."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st
from jinja2 import UndefinedError

from reconciler.blueprint import escape
from reconciler.blueprint.places import body_limit
from reconciler.blueprint.templates import shipped
from reconciler.kit.secret import Secret

TEXT = st.text(max_size=60) | st.text(st.sampled_from("\"'\\${}[];#%=\n\r\t` ab"), max_size=60)


def _phpdotenv(line: str) -> tuple[str, str]:
    """The double-quoted part of phpdotenv 5's grammar: its escapes, its `${NAME}` and what follows the quote."""
    name, _, raw = line.partition("=")
    assert raw[0] == '"'
    value, rest = "", iter(raw[1:])
    for character in rest:
        if character == "\\":
            escaped = next(rest)
            assert escaped in '"\\$', "an unexpected escape sequence"
            value += escaped
        elif character == '"':
            break
        else:
            assert character != "$", "a variable"
            value += character
    else:
        raise AssertionError("a missing closing quote")
    assert not list(rest), "text after the closing quote"
    return name, value


@given(TEXT)
def test_a_dotenv_line_reads_back_as_the_value(value: str) -> None:
    if re.search(r"[\x00\r\n]", value):
        with pytest.raises(ValueError, match="line break"):
            escape.dotenv(value)
    else:
        text = shipped().render("env/site.env.j2", {"values": {"NAME": value}})
        line = text.split("\n", 1)[1]
        assert line.endswith("\n")
        assert _phpdotenv(line[:-1]) == ("NAME", value)


def _nginx_words(text: str) -> list[str]:
    """Words of a directive as ngx_conf_file.c reads a double-quoted one; `;`, `{` and `}` outside quotes stay visible."""
    words = re.findall(r'"((?:[^"\\]|\\.)*)"|([^\s"]+)', text)
    return [bare or re.sub(r"\\(.)", r"\1", quoted) for quoted, bare in words]


@given(TEXT)
def test_an_nginx_string_is_one_word_without_variables(value: str) -> None:
    try:
        text = escape.nginx(value)
    except ValueError:
        return
    assert _nginx_words(f"root {text} ;") == ["root", value, ";"]
    assert "$" not in text


def _caddy_tokens(text: str) -> list[str]:
    """Tokens as caddy's lexer.go reads them: in backticks nothing is special, between quotes a backslash before a quote is."""
    found, rest = [], text
    while rest := rest.lstrip(" \t"):
        if rest[0] == "`":
            token, _, rest = rest[1:].partition("`")
        elif rest[0] == '"':
            match = re.match(r'"((?:[^"\\]|\\.)*)"', rest, re.DOTALL)
            assert match is not None, "a quote without an end"
            token, rest = match[1].replace('\\"', '"'), rest[match.end() :]
        else:
            token, _, rest = rest.partition(" ")
        found.append(token)
    return found


@given(TEXT)
def test_a_caddyfile_string_is_one_token_without_variables(value: str) -> None:
    try:
        text = escape.caddy(value)
    except ValueError:
        return
    assert _caddy_tokens(f"header X {text} ;") == ["header", "X", value, ";"]
    assert not re.search(r"[{}\n]", text)


@given(TEXT)
def test_our_own_texts_have_no_variables_of_caddy_either(value: str) -> None:
    try:
        text = escape.caddy_text(value)
    except ValueError:
        return
    assert _caddy_tokens(f"respond {text} ;") == ["respond", value, ";"]
    assert "{$" not in text


@given(TEXT)
def test_a_php_value_holds_nothing_its_scanner_treats_specially(value: str) -> None:
    try:
        text = escape.ini(value)
    except ValueError:
        return
    assert text == f'"{value}"'
    assert not re.search(r'["\\$\n\r]', value)


@given(TEXT)
def test_a_bare_word_is_made_of_plain_characters(value: str) -> None:
    try:
        assert re.fullmatch(r"[A-Za-z0-9._@:+/-]+", escape.word(value))
    except ValueError:
        assert not re.fullmatch(r"[A-Za-z0-9._@:+/-]+", value) or value.endswith("\n")


@given(TEXT)
def test_the_text_of_a_unit_stays_on_its_line_and_has_no_specifier(value: str) -> None:
    try:
        text = escape.unit_text(value)
    except ValueError:
        return
    assert text.replace("%%", "\0").count("%") == 0
    assert not re.search(r"[\n\r\\]", text)


@pytest.mark.parametrize("value", ["shop\nUser=root", "shop;", "a b", "$HOME", "", '"', "é"])
def test_values_that_would_need_quotes_are_refused_where_there_are_none(value: str) -> None:
    with pytest.raises(ValueError, match="cannot stand unquoted"):
        escape.word(value)


def test_a_secret_reaches_a_template_only_when_revealed() -> None:
    assert "hunter2" not in shipped().render("env/site.env.j2", {"values": {"A": Secret("hunter2")}})


def test_a_template_that_misses_a_value_is_an_error() -> None:
    with pytest.raises(UndefinedError):
        shipped().render("env/site.env.j2", {})


@pytest.mark.parametrize(
    ("upload", "limit"), [("1K", "2M"), ("512K", "2M"), ("1024K", "2M"), ("16M", "17M"), ("2G", "2049M")]
)
def test_a_request_may_be_a_little_bigger_than_the_biggest_file(upload: str, limit: str) -> None:
    assert body_limit(upload) == limit


@pytest.mark.parametrize("size", ["", "0M", "16", "16m", "16M\n", "-1M"])
def test_what_is_no_size_is_refused(size: str) -> None:
    with pytest.raises(ValueError, match="is not a size"):
        body_limit(size)


def _systemd_words(text: str) -> list[str]:
    """The words of a line of `ExecStart=` as systemd.service(5) reads double quotes, escapes, `%%` and `$$`."""
    words = []
    for quoted, bare in re.findall(r'"((?:[^"\\]|\\.)*)"|([^\s"]+)', text, re.DOTALL):
        word = re.sub(r'\\([\\"])', r"\1", quoted or bare).replace("%%", "\0")
        assert "%" not in word, "a specifier"
        word = word.replace("\0", "%").replace("$$", "\0")
        assert "$" not in word, "a variable"
        words.append(word.replace("\0", "$"))
    return words


@given(TEXT)
def test_an_argument_of_a_unit_is_one_word_and_means_itself(value: str) -> None:
    try:
        text = escape.unit_argument(value)
    except ValueError:
        assert re.search(r"[\x00-\x1f\x7f-\x9f\u2028\u2029]", value)
        return
    assert "\n" not in text
    assert _systemd_words(f"/bin/sh -c {text}") == ["/bin/sh", "-c", value]
