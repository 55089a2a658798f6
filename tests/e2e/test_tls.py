"""TLS of sites on real nodes of both families: self-signed, from a CA by ACME, provided; renewals, refusals, redirects."""

from __future__ import annotations

import re
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from lab import Lab, Node

from . import ca
from .ca import Ca
from .harness import PROGRAM, Stage, boot, wait_for

FAMILIES = pytest.mark.parametrize("server", ["el", "deb"])
ASKED = "/var/lib/panel/certificates-asked.json"


@dataclass
class Secured:
    """The stage, and the CA that its servers ask."""

    stage: Stage
    ca: Ca

    def declare(self, name: str, server: str, /, *, known: bool = True, **spec: object) -> Node:
        """Commit a static site whose names lead to its node."""
        node = self.stage.nodes[server]
        values = {"phpVersion": None, "appType": "static", "www": "add", **spec}
        self.stage.site(name, server, **{k: v for k, v in values.items() if v is not None})
        self.stage.fleet.commit()
        for host in (f"{name}.test", f"www.{name}.test") if known else ():
            self.ca.resolve(host, node.ip)
        return node


@dataclass(frozen=True)
class Answer:
    """What a visitor got; `code` is curl's exit code, `status` 0 when there was no answer."""

    code: int
    status: int
    version: str
    location: str
    head: str
    body: str


def ask(node: Node, url: str, *options: str, roots: Path | None = None) -> Answer:
    """Ask a node for a page under a name, verifying its certificate with `roots`, or not at all."""
    host = url.split("/")[2]
    trust = ["--cacert", str(roots)] if roots else ["--insecure"]
    argv = ["curl", "-sS", "-D", "-", "--max-time", "10", "--resolve", f"{host}:80:{node.ip}"]
    argv += ["--resolve", f"{host}:443:{node.ip}", *trust, *options, url]
    done = subprocess.run(argv, capture_output=True, text=True, check=False)
    head, _, body = done.stdout.replace("\r\n", "\n").partition("\n\n")
    first = re.match(r"HTTP/([0-9.]+) ([0-9]+)", head)
    location = re.search(r"^location: (.*)$", head, re.M | re.I)
    return Answer(
        done.returncode,
        int(first[2]) if first else 0,
        first[1] if first else "",
        location[1] if location else "",
        head.lower(),
        body if first else done.stderr,
    )


def shown(node: Node, name: str) -> set[str]:
    """The names of the certificate that a node shows for a name."""
    argv = ["openssl", "s_client", "-connect", f"{node.ip}:443", "-servername", name]
    done = subprocess.run(argv, input="", capture_output=True, text=True, check=False, timeout=20)
    read = ["openssl", "x509", "-noout", "-ext", "subjectAltName"]
    told = subprocess.run(read, input=done.stdout, capture_output=True, text=True, check=False).stdout
    return set(re.findall(r"DNS:([^,\s]+)", told))


@pytest.fixture(scope="module")
def secured(lab: Lab, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Secured]:
    nodes = boot(lab, el="el9-web", deb="debian12-web")
    folder = tmp_path_factory.mktemp("tls")
    stage = Stage.build(folder)
    try:
        with ca.running(lab.controller, folder / "ca") as authority:
            account = {
                "email": "hosting@example.test",
                "directory": authority.directory,
                "trust": authority.trust,
            }
            for name, node in nodes.items():
                stage.enroll(name, node)
                stage.fleet.change("Server", name, acme=account, databaseEngines=None)
            stage.fleet.commit()
            stage.apply()
            yield Secured(stage, authority)
    finally:
        for node in nodes.values():
            node.remove()


@FAMILIES
def test_a_certificate_is_issued_renewed_and_issued_anew_for_other_names(
    secured: Secured, server: str
) -> None:
    issued_renewed_and_issued_anew(secured, server, f"shop-{server}")


def issued_renewed_and_issued_anew(secured: Secured, server: str, name: str, readers: str = "root") -> None:
    stage = secured.stage
    roots = secured.ca.root()
    tls = {"mode": "acme", "hsts": {"maxAge": "1h"}}
    node = secured.declare(name, server, tls=tls)
    said = stage.apply()
    assert f"Site/{name}" in said.out
    page = ask(node, f"https://www.{name}.test/", roots=roots)
    assert (page.code, page.status, page.version) == (0, 200, "2"), page
    assert "strict-transport-security: max-age=3600" in page.head
    assert node.read(f"/home/{stage.user(name)}/.env").count(f'APP_URL="https://www.{name}.test"') == 1
    mode = node.output(f"stat -c '%a %U:%G' /etc/panel/tls/{name}/privkey.pem")
    assert mode == f"640 root:{readers}"
    stage.in_sync()

    # the timer renews; its hook hands the new one to the web server
    timer = "certbot-renew.timer" if server == "el" else "certbot.timer"
    assert node.output(f"systemctl is-active {timer}") == "active"
    before = node.output(f"sha256sum < /etc/panel/tls/{name}/fullchain.pem")
    service = timer.replace(".timer", ".service")
    assert "REQUESTS_CA_BUNDLE" in node.output(f"systemctl show -P Environment {service}")
    environment = "REQUESTS_CA_BUNDLE=/etc/panel/acme/trust.pem"
    node.run(
        f"{environment} certbot renew -q --no-random-sleep-on-renew --force-renewal --cert-name panel-{name} 2>&1",
        timeout=120,
    )
    assert node.output(f"sha256sum < /etc/panel/tls/{name}/fullchain.pem") != before
    assert ask(node, f"https://www.{name}.test/", roots=roots).status == 200
    stage.in_sync()

    # another name, another certificate
    secured.ca.resolve(f"other-{name}.test", node.ip)
    stage.fleet.change("Site", name, aliases=[f"other-{name}.test"])
    stage.fleet.commit()
    stage.apply()
    wanted = {f"{name}.test", f"www.{name}.test", f"other-{name}.test"}
    wait_for(lambda: shown(node, f"other-{name}.test") == wanted)
    assert ask(node, f"https://other-{name}.test/", roots=roots).status == 200

    # a name that leads nowhere: everything stays as it is, and it is said why
    good = node.output(f"sha256sum < /etc/panel/tls/{name}/fullchain.pem")
    stage.fleet.change("Site", name, aliases=[f"other-{name}.test", f"nowhere-{name}.test"])
    stage.fleet.commit()
    stage.apply(code=1)
    told = stage.status()[f"Site/{name}"]
    assert told["ready"] == "False"
    message = next(c["message"] for c in told["conditions"] if c["type"] == "Ready")
    assert f"nowhere-{name}.test" in message
    assert "the CA could not verify" in message
    assert node.output(f"sha256sum < /etc/panel/tls/{name}/fullchain.pem") == good
    wait_for(lambda: ask(node, f"https://nowhere-{name}.test/").status == 0)
    assert ask(node, f"https://other-{name}.test/", roots=roots).status == 200
    again = stage.apply(code=1)
    assert "is asked again after" in again.text, again.text
    stage.fleet.change("Site", name, aliases=[f"other-{name}.test"])
    stage.fleet.commit()
    stage.apply()
    stage.in_sync()

    # without TLS nothing is left of it
    stage.fleet.change("Site", name, tls=None)
    stage.fleet.commit()
    stage.apply()
    assert (
        node.run(f"ls -d /etc/panel/tls/{name} /etc/letsencrypt/live/panel-{name}", check=False).stdout == ""
    )
    wait_for(lambda: ask(node, f"https://www.{name}.test/").code == 35)
    assert ask(node, f"http://www.{name}.test/").status == 200


@FAMILIES
def test_a_new_site_whose_name_leads_nowhere_is_there_and_gets_its_certificate_later(
    secured: Secured, server: str
) -> None:
    stage, name = secured.stage, f"early-{server}"
    node = secured.declare(name, server, known=False, tls={"mode": "acme"})
    said = stage.apply(code=1)
    assert "the CA could not verify" in said.text
    assert ask(node, f"https://www.{name}.test/").status == 200
    assert ask(node, f"https://www.{name}.test/", roots=secured.ca.root()).code == 60
    for host in (f"{name}.test", f"www.{name}.test"):
        secured.ca.resolve(host, node.ip)
    node.run(f"rm {ASKED}")
    stage.apply()
    wait_for(lambda: ask(node, f"https://www.{name}.test/", roots=secured.ca.root()).status == 200)
    stage.in_sync()


@FAMILIES
def test_visitors_are_sent_on_and_nobody_else_is_answered(secured: Secured, server: str) -> None:
    sent_on(secured, server, server)


def sent_on(secured: Secured, server: str, tag: str) -> None:
    stage, name = secured.stage, f"sent-{tag}"
    plain = secured.declare(f"plain-{tag}", server, known=False)
    tls = {"mode": "selfSigned"}
    redirects = [{"from": "/*", "to": "https://elsewhere.test/*"}]
    secured.declare(f"gone-{tag}", server, known=False, tls=tls, redirects=redirects)
    secured.declare(f"asleep-{tag}", server, known=False, tls=tls, state="suspended")
    secured.declare(f"new-{tag}", server, known=False, tls={**tls, "minVersion": "1.3"})
    node = secured.declare(name, server, known=False, tls=tls)
    stage.apply()
    assert shown(node, f"{name}.test") == {f"{name}.test", f"www.{name}.test"}
    wait_for(lambda: ask(node, f"http://www.{name}.test/a?b=c").status == 308)
    assert ask(node, f"http://www.{name}.test/a?b=c").location == f"https://www.{name}.test/a?b=c"
    assert ask(node, f"http://{name}.test/a?b=c").location == f"https://www.{name}.test/a?b=c"
    assert ask(node, f"https://{name}.test/a").location == f"https://www.{name}.test/a"
    assert ask(node, f"https://www.{name}.test/").version == "2"
    asleep = f"https://www.asleep-{tag}.test/"
    assert ask(node, asleep).status == 503

    # a challenge is answered under every name
    folder = "/var/lib/panel-sites/acme/.well-known/acme-challenge"
    node.run(f"mkdir -p {folder} && echo answer > {folder}/token")
    for site in (name, f"plain-{tag}", f"gone-{tag}", f"asleep-{tag}"):
        for host in (f"{site}.test", f"www.{site}.test"):
            found = ask(node, f"http://{host}/.well-known/acme-challenge/token")
            assert (found.status, found.body) == (200, "answer\n"), host
    assert ask(node, "http://unknown.test/.well-known/acme-challenge/token").body == "answer\n"

    # hosts without TLS, and hosts of nobody, get neither an answer nor a certificate
    assert ask(plain, f"https://plain-{tag}.test/").code == 35
    assert ask(node, "https://unknown.test/").code == 35
    assert ask(node, f"https://{node.ip}/").code == 35
    assert ask(node, "http://unknown.test/").code == 52
    assert shown(node, "unknown.test") == set()
    smuggled = ask(node, f"https://www.{name}.test/", "-H", f"Host: plain-{tag}.test")
    assert smuggled.status == 0

    # versions
    new = f"https://www.new-{tag}.test/"
    assert ask(node, new).status == 200
    assert ask(node, new, "--tls-max", "1.2").status == 0
    assert ask(node, f"https://www.{name}.test/", "--tls-max", "1.2").status == 200
    assert ask(node, f"https://www.{name}.test/", "--tls-max", "1.1").code == 35
    stage.in_sync()

    # a certificate that is lost, or of other names, is made anew
    node.run(f"rm /etc/panel/tls/{name}/privkey.pem")
    stage.apply()
    assert shown(node, f"{name}.test") == {f"{name}.test", f"www.{name}.test"}
    stage.fleet.change("Site", name, aliases=[f"more-{name}.test"])
    stage.fleet.commit()
    stage.apply()
    wait_for(lambda: f"more-{name}.test" in shown(node, f"more-{name}.test"))
    stage.in_sync()


def sealed(stage: Stage, plain: str) -> dict[str, str]:
    """A value as a manifest holds it, encrypted for the daemon."""
    done = subprocess.run(
        [PROGRAM, "secrets", "encrypt"],
        input=plain,
        env=stage.environment(),
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
    )
    return {"age": done.stdout}


@FAMILIES
def test_a_certificate_of_the_manifest_is_served_and_another_ones_key_is_not(
    secured: Secured, server: str
) -> None:
    stage, name = secured.stage, f"own-{server}"
    authority = ca.issue(("Own CA",), ca=True)
    roots = secured.ca.folder / f"{name}.pem"
    roots.write_text(ca.text(authority[0]))
    names = (f"{name}.test", f"*.{name}.test")
    certificate, key = ca.issue(names, by=authority)
    chain = ca.text(certificate) + ca.text(authority[0])
    tls = {"mode": "provided", "certificate": chain, "key": sealed(stage, ca.pem(key))}
    node = secured.declare(name, server, known=False, tls=tls)
    said = stage.apply()
    url = f"https://www.{name}.test/"
    wait_for(lambda: ask(node, url, roots=roots).status == 200)
    assert node.output(f"stat -c '%a %U:%G' /etc/panel/tls/{name}/privkey.pem") == "640 root:root"
    stage.in_sync()
    body = ca.pem(key).splitlines()[1]
    for told in (said.text, stage.run("plan", "--output", "json", code=None).text):
        assert body not in told

    # a key of another certificate: the place is named, and the node is left as it is
    other, other_key = ca.issue(names, by=authority, days=90)
    stage.fleet.change("Site", name, tls={**tls, "key": sealed(stage, ca.pem(other_key))})
    stage.fleet.commit()
    refused = stage.apply(code=None)
    assert "spec.tls.key is not the key of spec.tls.certificate" in refused.text, refused.text
    assert re.search(rf"site-{name}\.yaml:\d+:\d+: ", refused.text)
    assert ask(node, url, roots=roots).status == 200
    assert node.read(f"/etc/panel/tls/{name}/privkey.pem") == ca.pem(key)

    # both of them, then one that the node makes itself: the old pair is gone
    again = ca.text(other) + ca.text(authority[0])
    whole = {"mode": "provided", "certificate": again, "key": sealed(stage, ca.pem(other_key))}
    stage.fleet.change("Site", name, tls=whole)
    stage.fleet.commit()
    stage.apply()
    assert ask(node, url, roots=roots).status == 200
    assert node.read(f"/etc/panel/tls/{name}/fullchain.pem") == again
    stage.in_sync()
    stage.fleet.change("Site", name, tls={"mode": "selfSigned"})
    stage.fleet.commit()
    stage.apply()
    wait_for(lambda: ask(node, url, roots=roots).code == 60)
    assert shown(node, f"{name}.test") == {f"{name}.test", f"www.{name}.test"}
    stage.in_sync()


@FAMILIES
def test_with_caddy_it_means_the_same(secured: Secured, server: str) -> None:
    stage, node, kept, paid = secured.stage, secured.stage.nodes[server], f"kept-{server}", f"paid-{server}"
    secured.declare(kept, server, tls={"mode": "acme"})
    stage.apply()
    before = shown(node, f"www.{kept}.test")
    stage.fleet.change("Server", server, webServer="caddy")
    certificate, key = ca.issue((f"{paid}.test", f"www.{paid}.test"))
    bought = {"mode": "provided", "certificate": ca.text(certificate), "key": sealed(stage, ca.pem(key))}
    secured.declare(paid, server, known=False, tls=bought)
    stage.apply()
    assert shown(node, f"www.{kept}.test") == before != set()
    assert ask(node, f"https://www.{kept}.test/", roots=secured.ca.root()).status == 200
    roots = secured.ca.folder / f"{paid}.pem"
    roots.write_text(ca.text(certificate))
    assert ask(node, f"https://www.{paid}.test/", roots=roots).status == 200
    assert node.output(f"stat -c '%a %U:%G' /etc/panel/tls/{paid}/privkey.pem") == "640 root:caddy"
    issued_renewed_and_issued_anew(secured, server, f"shop-swift-{server}", readers="caddy")
    sent_on(secured, server, f"swift-{server}")
