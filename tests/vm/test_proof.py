"""A bare server becomes two sites by the daemon, in an enforcing kernel: nothing is refused on the way, and all works."""

from __future__ import annotations

from tests.vm import denials
from tests.vm.world import SITES, World

# What a site does all day. Each is true when it worked.
WORK = {
    "read its .env": "return strpos(file_get_contents('/home/web1/.env'), 'APP_URL') !== false;",
    "include its code": "return (include '/home/web1/public_html/settings.php')['of'] === 'one';",
    "write and read its storage": "file_put_contents('/home/web1/storage/note', 'x'); mkdir('/home/web1/storage/d');"
    "rename('/home/web1/storage/note', '/home/web1/storage/d/note'); return file_get_contents('/home/web1/storage/d/note') === 'x';",
    "keep a session": "session_start(); $_SESSION['n'] = 1; session_write_close(); return count(glob('/home/web1/sessions/sess_*')) > 0;",
    "make temporary files": "$f = tmpfile(); fwrite($f, 'x'); $g = tempnam('/tmp', 'x'); return $g && unlink($g);",
    "use its database": "$e = parse_ini_file('/home/web1/.env'); mysqli_report(MYSQLI_REPORT_ERROR | MYSQLI_REPORT_STRICT);"
    "$d = new mysqli('localhost', $e['DB_USERNAME'], $e['DB_PASSWORD'], $e['DB_DATABASE']);"
    "$d->query('CREATE TABLE t (n INT)'); $d->query('INSERT INTO t VALUES (42)');"
    "return $d->query('SELECT n FROM t')->fetch_row()[0] == 42;",
    "send mail by SMTP": "$s = fsockopen('127.0.0.1', 25, $n, $e, 5); return $s && str_starts_with(fgets($s), '220 ');",
    "fetch a page of others": "$c = stream_context_create(['http' => ['header' => 'Host: two.test']]);"
    "return strpos(file_get_contents('http://127.0.0.1/', false, $c), 'ready') !== false;",
    "unpack an archive": "$z = new ZipArchive(); $z->open('/home/web1/storage/a.zip', ZipArchive::CREATE); $z->addFromString('in', 'x');"
    "$z->close(); $z->open('/home/web1/storage/a.zip'); return $z->extractTo('/home/web1/storage/z');",
    "log an error": "error_log('of site one'); return strpos(file_get_contents('/home/web1/logs/php-error.log'), 'of site one') > 0;",
}
# answers as a mail server does, on the port of mail
SMTP = (
    "import socket; s = socket.create_server(('127.0.0.1', 25)); print('ready', flush=True)\n"
    "while True: c = s.accept()[0]; c.sendall(b'220 here\\r\\n'); c.close()"
)
ENV = "location = /env {{ alias {home}/.env; }}"


def test_nothing_was_refused_from_the_bare_server_to_served_pages(world: World) -> None:
    for name in SITES:
        status, page = world.stage.get(name)
        assert (status, "This site is ready" in page) == (200, True)
    found = {denials.refusal(one): (one.comm, one.object) for one in denials.since(world.machine)}
    assert found.keys() == denials.BOOT, found


def test_each_part_runs_in_its_domain_and_level(world: World) -> None:
    lines = world.machine.output("ps -eo label,args --no-headers").splitlines()
    running = {(line.split()[0], line.split(None, 1)[1].strip()) for line in lines}
    for name, site in world.sites.items():
        php = f"php-fpm: master process (/etc/panel/fpm/{name}.conf)"
        assert (f"system_u:system_r:laravel_php_fpm_t:{site.level}", php) in running
        assert (f"system_u:system_r:laravel_job_t:{site.level}", "sleep 100000") in running
    nginx = {label for label, words in running if words.startswith("nginx: ")}
    assert nginx == {"system_u:system_r:laravel_nginx_t:s0"}
    assert len({site.level for site in world.sites.values()}) == 2
    assert (
        world.machine.output("stat -c %C /usr/bin/panel-ssh-manager").split(":")[2]
        == "laravel_ssh_key_exec_t"
    )


def test_every_file_of_a_site_has_its_level(world: World) -> None:
    for name, site in world.sites.items():
        listed = f"find {site.home} /run/panel-fpm/{name} -printf '%Z %p\\n'"
        wrong = [line for line in world.machine.output(listed).splitlines() if f":{site.level} " not in line]
        assert wrong == []
    world.machine.run("touch /home/web1/storage/stray && chcon -l s0 /home/web1/storage/stray")
    assert ":s0 " in world.machine.output("find /home/web1/storage/stray -printf '%Z %p\\n'"), (
        "it would be seen"
    )


def test_a_site_does_its_work(world: World) -> None:
    world.machine.run(f'systemd-run -q --unit=smtp python3 -u -c "{SMTP}"')
    world.machine.run(
        "for n in $(seq 50); do journalctl -u smtp | grep -q ready && exit; sleep 0.2; done; exit 1"
    )
    marked = denials.mark(world.machine)
    done = {
        what: world.php("one", f"echo json_encode((function () {{ {code} }})());")
        for what, code in WORK.items()
    }
    assert done == dict.fromkeys(WORK, "true")
    assert denials.since(world.machine, marked) == ()


def test_an_upload_arrives(world: World) -> None:
    keep = "<?php echo json_encode(move_uploaded_file($_FILES['f']['tmp_name'], '/home/web1/storage/kept'));"
    world.place("one", "public_html/upload.php", keep)
    marked = denials.mark(world.machine)
    sent = "echo sent | curl -s -F 'f=@-;filename=f.txt' -H 'Host: one.test' http://127.0.0.1/upload.php"
    assert world.machine.output(sent) == "true"
    assert world.machine.output("cat /home/web1/storage/kept; stat -c %C /home/web1/storage/kept") == (
        f"sent\nsystem_u:object_r:laravel_app_rw_t:{world.sites['one'].level}"
    )
    assert denials.since(world.machine, marked) == ()


def test_a_file_of_credentials_is_not_served_by_any_mistake_in_the_web_server(world: World) -> None:
    machine, home = world.machine, world.sites["one"].home
    # a location that hands it out, and modes that let everybody read it
    machine.run(
        f"sed -i '0,/server_name/s||{ENV.format(home=home)}\\n    server_name|' /etc/nginx/sites-available/one.test.conf\n"
        f"chmod 0755 {home}; chmod 0644 {home}/.env; nginx -t -q && systemctl reload nginx; sleep 1"
    )
    marked = denials.mark(machine)
    assert world.stage.get("one", "/env")[0] == 403
    refused = {denials.refusal(one) for one in denials.since(machine, marked)}
    assert refused <= {
        ("laravel_nginx_t", "laravel_env_t", "file", word) for word in ("read", "getattr", "open")
    }
    assert refused
    machine.run(f"chcon -t site_content_t {home}/.env")
    assert "APP_URL" in world.stage.get("one", "/env")[1], "else something else has refused it"


def test_a_job_of_one_site_cannot_look_at_another(world: World) -> None:
    machine = world.machine
    machine.run("chmod -R 0777 /home/web1 /home/web2")
    world.place(
        "two",
        "public_html/task.sh",
        "grep -ao system_u.* /proc/self/attr/current; cat /home/web1/storage/secret; cat /home/web2/storage/secret\n",
    )
    marked = denials.mark(machine)
    machine.run("systemctl start panel-cron-two_task.service", check=False)
    said = machine.output("cat /home/web2/logs/task")
    assert f"laravel_job_t:{world.sites['two'].level}" in said
    assert "secret of two" in said
    assert "secret of one" not in said
    assert ("laravel_job_t", "site_content_t", "dir", "search") in {
        denials.refusal(one) for one in denials.since(machine, marked)
    }
