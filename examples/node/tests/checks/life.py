"""How it begins and ends, what it leaves behind, and what it does while there is nothing to do."""

import signal
import time

from lab import Usage, expect, wait_until
from traffic import expect_both_ways, expect_ping, ping, reach, transfer

from checks import beside, check


def ends_cleanly(lab, how):
    tunnel = lab.tunnel(*lab.add_places(1)).start().set_up()
    status = tunnel.end(how)
    expect(status == 0, f"it ended with {status}")
    tunnel.expect_gone()


@check
def sigterm_ends_it_and_leaves_nothing_behind(lab):
    ends_cleanly(lab, signal.SIGTERM)


@check
def sigint_ends_it_and_leaves_nothing_behind(lab):
    ends_cleanly(lab, signal.SIGINT)


@check
def deleting_the_device_ends_it(lab):
    tunnel = lab.tunnel(*lab.add_places(1)).start().set_up()
    tunnel.place.ip("link", "del", tunnel.device)
    tunnel.ended()
    tunnel.expect_gone()


@check
def a_renamed_device_goes_on(lab):
    one, other = lab.pair()
    expect_both_ways(one, other)
    one.place.ip("link", "set", one.device, "down")
    one.place.ip("link", "set", one.device, "name", "renamed")
    one.place.ip("link", "set", "renamed", "up")
    expect_ping(one.place, other.inner())
    one.place.ip("link", "set", "renamed", "mtu", 1300)
    expect_ping(one.place, other.inner(), size=1300 - 28, df=True)
    one.place.ip("link", "del", "renamed")
    one.ended()


@check
def a_device_in_another_namespace_goes_on(lab):
    """As containers are connected: the packets are inside, the port is outside."""
    one, other = lab.pair()
    expect_both_ways(one, other)
    inside = lab.add_places(1)[0]
    one.place.ip("link", "set", one.device, "netns", inside.name)
    inside.ip("addr", "add", f"{one.inner()}/24", "dev", one.device)
    inside.ip("link", "set", one.device, "up")
    expect_ping(inside, other.inner())
    expect_ping(other.place, one.inner())
    transfer(inside, other.place, other.inner(), 4 << 20)
    inside.ip("link", "del", one.device)
    one.ended()


@check
def deleting_the_socket_ends_it(lab):
    tunnel = lab.tunnel(*lab.add_places(1)).start().set_up()
    tunnel.socket_file.unlink()
    tunnel.ended()
    tunnel.expect_gone()


def again(tunnel, how):
    """Ends a tunnel and starts it with the same configuration; returns the moment of its readiness."""
    config = tunnel.place.lab.work / f"{tunnel.device}.conf"
    config.write_text(tunnel.wg("showconf").stdout)
    tunnel.end(how)
    wait_until(lambda: not tunnel.place.has_device(tunnel.device), 2, "the device did not go away")
    tunnel.start()
    tunnel.wg("setconf", config)
    tunnel.take_up()


@check
def it_comes_back_after_sigterm_and_after_kill(lab):
    """The one that is started again speaks first; the other one has not noticed anything."""
    one, other = lab.pair()
    expect_both_ways(one, other)
    for tunnel, peer in ((one, other), (other, one)):
        for how in (signal.SIGTERM, signal.SIGKILL):
            again(tunnel, how)
            lab.note(f"{how.name} {reach(tunnel.place, peer.inner(), 8) * 1000:.0f} ms")
            expect_both_ways(one, other)


@beside
def a_peer_that_was_killed_and_started_again_is_found_by_the_one_that_stayed(lab):
    """Fifteen seconds without an answer, and there is a new handshake; the sender is never told."""
    one, other = lab.pair()
    expect_both_ways(one, other)
    again(other, signal.SIGKILL)
    # It has to be found, not to find by itself.
    other.wg("set", "peer", one.public, "remove")
    other.peer(one, endpoint=0)
    taken = reach(one.place, other.inner(), 25)
    lab.note(f"found after {taken:.1f} s")
    expect(taken > 10, "a new handshake was made sooner than the protocol allows")


def tasks(pid):
    usage = Usage(pid)
    return usage.user, usage.system, usage.switches, usage.threads


@check
def without_traffic_it_does_nothing_at_all(lab):
    """For five seconds: no processor time, and no thread is ever woken."""
    tunnel = lab.tunnel(*lab.add_places(1)).start()
    # IPv6 would look for routers by itself.
    tunnel.place.run("sysctl", "-qw", f"net.ipv6.conf.{tunnel.device}.disable_ipv6=1")
    tunnel.wg("set", "listen-port", tunnel.port, "private-key", "/dev/stdin", given=tunnel.private)
    tunnel.wg("set", "peer", lab.tunnel(tunnel.place).public, "endpoint", "192.0.2.9:1", "allowed-ips", "10.0.0.0/8")
    tunnel.place.ip("addr", "add", "10.77.0.1/24", "dev", tunnel.device)
    tunnel.place.ip("link", "set", tunnel.device, "up")
    # By then the cable has its own IPv6 address, which the kernel reports to who listens.
    time.sleep(3)
    before = tasks(tunnel.pid)
    time.sleep(5)
    after = tasks(tunnel.pid)
    lab.note(f"{after[3]} threads, RSS {Usage(tunnel.pid).rss_kib / 1024:.1f} MiB")
    expect(before == after, f"user s, system s, wakeups and threads went from {before} to {after}")


@beside
def handshakes_that_nobody_answers_are_repeated_every_five_seconds(lab):
    """However much is to be sent: with jitter two in nine seconds."""
    one, other = lab.pair()
    other.end()
    other.place.watch("prerouting", initiations="iif cable udp dport 51820 udp length 156")
    ping(one.place, other.inner(), count=180, interval=0.05, wait=0)
    sent = other.place.count("initiations")
    expect(sent == 2, f"{sent} initiations were sent in nine seconds, not two")
