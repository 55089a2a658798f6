"""What an import is told of a node, whatever stands in its files: bounded, without secrets, and in the end an answer."""

from __future__ import annotations

import json
import os
from contextlib import suppress
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from reconciler.agent.inventory import accounts, lexer
from reconciler.desired.fleet import Fleet
from reconciler.importing import Wish, take
from reconciler.nodes import inventory

from .talking import Here

MAIN = "events {}\nhttp { include /etc/nginx/conf.d/*.conf; include sites/*; }\n"


def collected(here: Here) -> dict[str, Any]:
    done = here.call("inventory")
    assert (done.returncode, done.stderr) == (0, "")
    found = json.loads(done.stdout)
    assert isinstance(found, dict)
    return found


def nginx(here: Here, **files: str) -> dict[str, Any]:
    """The inventory of a node with these files in conf.d. Its paths are those of a folder, as includes would find them."""
    here.write("/etc/nginx/nginx.conf", MAIN)
    for name, text in files.items():
        here.write(f"/etc/nginx/conf.d/{name}.conf", text)
    return collected(here)


def names(found: dict[str, Any]) -> list[str]:
    return [name for host in found["hosts"] for name in host["names"]]


def test_words_are_read_as_nginx_reads_them(here: Here) -> None:
    found = nginx(
        here,
        a='server { server_name \'a b\' "c;d" e\\;f g\\"h #no\n ${x}.test; root /srv/x; }',
        b="server{server_name tight;root '/a;}b';location ~ \"^/x{2}$\"{fastcgi_pass unix:/run/a.sock;}}",
    )
    assert names(found) == ["a b", "c;d", "e\\;f", 'g"h', "${x}.test", "tight"]
    assert found["hosts"][1]["root"] == "/a;}b"
    assert found["hosts"][1]["php"] == ["unix:/run/a.sock"]


def test_a_file_that_is_no_configuration_is_named_by_its_line_and_the_others_count(here: Here) -> None:
    found = nginx(
        here,
        a="server { server_name good.test; root /srv; }",
        brace="\nserver { server_name x.test;",
        quote="server { server_name 'secret-word; }",
        none="secret-word secret-word",
        deep="a {" * 5000,
        closing="}\n",
    )
    assert names(found) == ["good.test"]
    told = "\n".join(found["notes"])
    for place in (
        "brace.conf: line 2",
        "quote.conf: line 1",
        "none.conf: line 1",
        "deep.conf",
        "closing.conf: line 1",
    ):
        assert place in told
    assert "secret-word" not in json.dumps(found)


def test_links_in_a_circle_pipes_and_folders_hold_nothing_up(here: Here) -> None:
    here.write("/etc/nginx/conf.d/again.conf", "include /etc/nginx/nginx.conf; include /etc/nginx/conf.d/*;")
    folder = here.path("/etc/nginx/conf.d")
    (folder / "loop.conf").symlink_to("loop.conf")
    (folder / "gone.conf").symlink_to("/no/where")
    (folder / "folder.conf").mkdir()
    os.mkfifo(folder / "pipe.conf")
    (folder / "zero.conf").symlink_to("/dev/zero")
    (folder / "large.conf").write_bytes(b"#" * (2 << 20))
    found = nginx(here, z="server { server_name last.test; root /srv; }")
    assert names(found) == ["last.test"]
    for name in ("loop", "gone", "folder", "pipe", "zero", "large"):
        assert any(f"{name}.conf: cannot be read" in note for note in found["notes"]), name


def test_only_what_is_named_leaves_the_node(here: Here) -> None:
    secret = "hunter2-canary"
    found = nginx(
        here,
        a=f"""
        server {{
          server_name a.test; root /srv; auth_basic "{secret}"; set $x {secret}; add_header X-{secret} {secret};
          location / {{
            proxy_pass http://u:{secret}@10.0.0.1:80/x?key={secret}; proxy_set_header Authorization "{secret}";
            fastcgi_param P {secret}; return 301 https://b.test/?t={secret};
          }}
          content_by_lua_block {{ local x = "{secret}" if x then ngx.say({{}}) end }}
          {secret} on;
        }}
        """,
    )
    here.write(
        "/etc/php/8.2/fpm/pool.d/a.conf",
        f"[a]\nenv[A] = {secret}\nphp_value[x] = {secret}\nlisten = /run/a\n",
    )
    found = collected(here)
    assert secret not in json.dumps(found)
    assert found["pools"][0]["variables"] == 1
    assert found["hosts"][0]["proxy"] == ["http://10.0.0.1:80/x"]
    assert {"auth_basic", "fastcgi_param", "set"} <= set(found["hosts"][0]["others"])


def test_thousands_of_virtual_hosts_are_bounded_and_become_sites_with_names_of_their_own(here: Here) -> None:
    many = "".join(f"server {{ server_name A{n}.test; root /srv/{n}; }}\n" for n in range(3100))
    long = (
        f"server {{ server_name {' '.join(f'n{n}.test' for n in range(500))} {'x' * 9000}.test; root /srv; }}"
    )
    found = nginx(here, a=long, b=many)
    assert len(found["hosts"]) == 3000
    assert any("3101 virtual hosts" in note for note in found["notes"])
    assert len(found["hosts"][0]["names"]) == 100
    here.write("/etc/os-release", "ID=debian\nVERSION_ID=12\n")
    made = take(inventory.read(collected(here)), Wish("web1", "192.0.2.1", 22, "fleet"), Fleet())
    assert len({draft.address for draft in made.drafts}) == len(made.drafts) == 3001


@pytest.mark.parametrize(
    ("line", "told"),
    [
        ("0 1 * * * mysqldump -pwonder db", "0 1 * * * mysqldump -p*** db"),
        ("@daily curl -u me:wonder https://x.test", "@daily curl -u *** https://x.test"),
        (
            "* * * * * wget https://u:wonder@x.test/?token=wonder",
            "* * * * * wget https://***@x.test/?token=***",
        ),
        ("* * * * * PASSWORD=wonder x --api-key wonder", "* * * * * PASSWORD=*** x --api-key ***"),
        ("* * * * * php artisan schedule:run", "* * * * * php artisan schedule:run"),
    ],
)
def test_a_line_of_a_crontab_is_told_without_its_secrets(line: str, told: str) -> None:
    assert accounts.masked(line) == told


@given(st.text(st.sampled_from("{};\"'\\$# \nax_by_lua_block"), max_size=80))
def test_any_text_is_parsed_or_broken(text: str) -> None:
    with suppress(lexer.Broken):
        lexer.parse(text)
