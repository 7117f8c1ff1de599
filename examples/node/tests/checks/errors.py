"""What goes wrong is said in a sentence, ends with the exit code 1, and breaks nothing else."""

import os
import resource
import shutil
import socket
import time

from lab import Skip, Usage, expect, node_program, wait_until
from traffic import expect_both_ways

from checks import check


def expect_error(lab, place, name, *words, prefix=(), program=None):
    """The program ends by itself with 1, and what it says contains one of the words."""
    said = place.run("timeout", "5", *prefix, program or node_program(), "-f", name, check=False)
    text = (said.stdout + said.stderr).strip()
    expect(said.returncode == 1, f"it ended with {said.returncode}, not 1, and said {text!r}")
    expect(text, "it said nothing")
    expect("panicked" not in text, f"it panicked: {text}")
    expect(any(word in text.lower() for word in words), f"none of {words} is in what it said: {text!r}")
    lab.note(repr(text.splitlines()[-1]))


@check
def without_permission_it_says_so(lab):
    if shutil.which("setpriv") is None:
        raise Skip("there is no setpriv")
    copied = lab.work / "program"
    shutil.copy(node_program(), copied)
    lab.work.chmod(0o755)
    copied.chmod(0o755)
    expect_error(lab, lab.add_places(1)[0], "qwnobody", "permi", "privilege", "root",
                 prefix=("setpriv", "--reuid=65534", "--regid=65534", "--clear-groups"), program=copied)


@check
def an_invalid_name_is_refused(lab):
    place = lab.add_places(1)[0]
    for name in ("a" * 16, "a/b", "..", ".", "", "a b"):
        expect_error(lab, place, name, "name", "invalid", "long", "usage")
    lab.notes = lab.notes[:1]


@check
def a_device_that_exists_is_not_taken_from_its_owner(lab):
    """Neither another node's nor the system's."""
    one, other = lab.pair()
    expect_error(lab, one.place, one.device, "busy", "use", "exist", "running")
    expect_both_ways(one, other)
    expect_error(lab, one.place, "cable", "busy", "use", "exist", "invalid", "argument")
    expect_both_ways(one, other)


@check
def a_port_that_is_taken_is_refused_and_the_former_one_goes_on(lab):
    one, other = lab.pair()
    expect_both_ways(one, other)
    with one.place.open() as taken:
        taken.bind(("0.0.0.0", 45454))
        said = one.wg("set", "listen-port", 45454, check=False)
        expect(said.returncode != 0, "a port was set that is taken")
        expect("in use" in said.stderr.lower(), f"wg said {said.stderr.strip()!r}")
        expect(one.wg("show", "listen-port").stdout.strip() == str(one.port), "another port is shown")
        expect_both_ways(one, other)
    one.wg("set", "listen-port", 45454)
    expect_both_ways(one, other)


@check
def without_the_tun_device_it_says_so(lab):
    if shutil.which("unshare") is None:
        raise Skip("there is no unshare")
    # A mount namespace of its own, in which the folder of the device is empty, and stays so: who may
    # make the missing file would do so.
    hidden = ("unshare", "--mount", "sh", "-c", 'mount -t tmpfs -o ro,nodev none /dev/net || exit 99; exec "$@"', "sh")
    place = lab.add_places(1)[0]
    if place.run(*hidden, "true", check=False).returncode != 0:
        raise Skip("/dev/net cannot be hidden here")
    expect_error(lab, place, "qwnotun", "tun", "no such file", prefix=hidden)


@check
def connections_that_end_within_a_request_do_no_harm(lab):
    tunnel = lab.tunnel(*lab.add_places(1)).start().set_up()
    for request in [b"get=1\n", b"set=1\nprivate_key=00", b""] * 7:
        with socket.socket(socket.AF_UNIX) as rude:
            rude.connect(str(tunnel.socket_file))
            rude.sendall(request)
        with socket.socket(socket.AF_UNIX) as rude:
            rude.connect(str(tunnel.socket_file))
            rude.sendall(b"get=1\n\n")
    shown = tunnel.wg("show", "dump", timeout=5).stdout.split("\t")
    expect(shown[0] == tunnel.private and shown[2] == str(tunnel.port), "it does not answer as before")


@check
def nonsense_on_the_socket_is_refused_and_changes_nothing(lab):
    one, other = lab.pair()
    expect_both_ways(one, other)
    before = one.wg("showconf").stdout
    for request in (b"set=1\nlisten_port=70000\n\n", b"set=1\nprivate_key=zz\n\n", b"set=1\nunknown=1\n\n",
                    b"set=1\npublic_key=00\n\n", b"set=1\nallowed_ip=10.0.0.0/8\n\n", b"set=1\nfwmark\n\n",
                    b"set=1\n\xff\xfe=\x00\n\n"):
        with socket.socket(socket.AF_UNIX) as asker:
            asker.settimeout(2)
            asker.connect(str(one.socket_file))
            asker.sendall(request)
            answer = asker.recv(4096)
        expect(answer.startswith(b"errno=") and answer != b"errno=0\n\n", f"{request} was answered with {answer}")
    expect(one.wg("showconf").stdout == before, "the configuration has changed")
    expect_both_ways(one, other)


@check
def a_line_without_an_end_is_not_kept_and_holds_nobody_up(lab):
    one, other = lab.pair()
    before = Usage(one.pid).rss_kib
    with socket.socket(socket.AF_UNIX) as asker:
        asker.settimeout(1)
        asker.connect(str(one.socket_file))
        try:
            for _ in range(256):
                asker.sendall(b"x" * 65536)
        except OSError:
            pass
        expect_both_ways(one, other)
        expect(one.wg("show", "listen-port", timeout=10).stdout.strip() == str(one.port), "others are not answered")
        grown = (Usage(one.pid).rss_kib - before) / 1024
        expect(grown < 8, f"it has grown by {grown:.1f} MiB")


@check
def a_log_that_cannot_be_written_does_not_end_it(lab):
    """As on a full disk, or when the terminal is closed that it was started from."""
    tunnel = lab.tunnel(*lab.add_places(1))
    tunnel.log = "/dev/full"
    tunnel.start(log_level="debug").set_up()
    tunnel.place.ip("link", "set", tunnel.device, "down")
    tunnel.wg("show")
    status = tunnel.end()
    expect(status == 0, f"it ended with {status}")
    tunnel.expect_gone()


@check
def it_comes_up_as_soon_as_there_are_file_descriptors_again(lab):
    tunnel = lab.tunnel(*lab.add_places(1)).start()
    used = len(os.listdir(f"/proc/{tunnel.pid}/fd"))
    resource.prlimit(tunnel.pid, resource.RLIMIT_NOFILE, (used, 100))
    tunnel.place.ip("link", "set", tunnel.device, "up")
    time.sleep(0.5)
    resource.prlimit(tunnel.pid, resource.RLIMIT_NOFILE, (100, 100))
    wait_until(lambda: tunnel.wg("show", "listen-port").stdout.strip() != "0", 3, "no port was opened")
