"""What operators use: `wg` shows what is so, and sets what it is told; `wg-quick` takes it up and down."""

import shutil
import time

from lab import Skip, answers, execute, expect, node_program, wait_until
from traffic import content, expect_both_ways, expect_ping, random_key, transfer

from checks import check

HANDSHAKES = "udp dport 51820 udp length { 156, 100 }"


@check
def wg_show_tells_what_has_happened(lab):
    """The handshake is recent, the endpoint right, and the counters grow by what was sent."""
    one, other = lab.pair()
    expect(one.handshake(other) == 0, "a handshake is shown before there was one")
    expect_ping(one.place, other.inner())
    for here, there in ((one, other), (other, one)):
        age = time.time() - here.handshake(there)
        expect(-1 <= age <= 5, f"the latest handshake is {age:.1f} s old")
        endpoint = here.show("endpoints")[there.public]
        expect(endpoint == f"{there.place.outer()}:{there.port}", f"the endpoint is {endpoint}")
    before = one.transfer(other), other.transfer(one)
    sizes = [1000] * 50
    datagrams_of_different_content(one, other, sizes)
    after = one.transfer(other), other.transfer(one)
    # 1028 bytes with IP and UDP, padded to 1040, and 32 bytes of header and tag.
    expected = 50 * 1072
    for name, grown in (("sent", after[0][1] - before[0][1]), ("received", after[1][0] - before[1][0])):
        expect(expected <= grown <= expected + 200, f"{name} grew by {grown} instead of {expected}")
    answered = after[0][0] - before[0][0]
    expect(answered <= 200, f"{answered} bytes were counted as received, and none were sent")


def datagrams_of_different_content(one, other, sizes):
    taken, port = other.place.listening(other.inner())
    with taken, one.place.open() as giver:
        taken.settimeout(2)
        for seed, size in enumerate(sizes):
            giver.sendto(content(size, seed), (other.inner(), port))
            expect(taken.recv(65535) == content(size, seed), "a datagram arrived changed")


@check
def wg_shows_everything_that_was_set(lab):
    one, other = lab.pair()
    one.peer(other, "persistent-keepalive", 25, allowed="10.77.0.2/32,10.1.0.0/16,fd77::2/128,fd01::/64")
    one.wg("set", "fwmark", "0x1234")
    fields = [line.split("\t") for line in one.wg("show", "dump").stdout.splitlines()]
    expect(fields[0] == [one.private, one.public, str(one.port), "0x1234"], f"the interface is {fields[0]}")
    peer = fields[1]
    expect(len(fields) == 2 and peer[0] == other.public and peer[1] == "(none)", f"the peer is {peer}")
    expect(peer[2] == f"{other.place.outer()}:{other.port}", f"the endpoint is {peer[2]}")
    expected = {"10.77.0.2/32", "10.1.0.0/16", "fd77::2/128", "fd01::/64"}
    expect(set(peer[3].split(",")) == expected, f"the allowed IPs are {peer[3]}")
    expect(len(peer) == 8 and peer[7] == "25", f"the rest is {peer[4:]}")
    listed = one.place.run("wg", "show", "all", "dump").stdout
    expect(f"{one.device}\t{one.private}" in listed, "`wg show all` does not list the device")


def blocks(config):
    """A configuration file as something that does not depend on the order of peers and addresses."""
    def line(text):
        name, _, value = text.partition(" = ")
        return name, tuple(sorted(value.split(", ")))
    sections = config.strip().split("\n\n")
    return sorted(sorted(line(text) for text in section.splitlines()) for section in sections)


@check
def showconf_and_setconf_are_inverse(lab):
    one, other = lab.pair(psk=execute("wg", "genpsk").stdout)
    one.peer(other, "persistent-keepalive", 7)
    for number in range(5):
        one.wg("set", "peer", random_key(), "allowed-ips", f"10.5.{number}.0/24,fd05:{number}::/32")
    one.wg("set", "fwmark", 77)
    first = one.wg("showconf").stdout
    path = lab.work / "one.conf"
    path.write_text(first)
    # What is not in the file has to go, what is in it has to come back.
    one.wg("set", "fwmark", 0, "peer", other.public, "remove", "peer", random_key(), "allowed-ips", "10.9.0.0/16")
    one.wg("setconf", path)
    again = one.wg("showconf").stdout
    expect(blocks(first) == blocks(again), f"the configuration has changed:\n{first}\n{again}")
    expect_both_ways(one, other, within=7)


@check
def syncconf_keeps_sessions(lab):
    one, other = lab.pair()
    expect_both_ways(one, other)
    shaken = one.handshake(other)
    path = lab.work / "one.conf"
    path.write_text(one.wg("showconf").stdout + f"\n[Peer]\nPublicKey = {random_key()}\nAllowedIPs = 10.9.0.0/16\n")
    other.place.watch("prerouting", handshakes=HANDSHAKES)
    one.wg("syncconf", path)
    expect(len(one.show("endpoints")) == 2, "the added peer is not there")
    expect_both_ways(one, other, count=5)
    expect(one.handshake(other) == shaken, "the latest handshake is another one")
    expect(other.place.count("handshakes") == 0, "there were new handshakes")


@check
def two_hundred_peers_are_listed_completely(lab):
    tunnel = lab.tunnel(*lab.add_places(1)).start().set_up()
    expected = {random_key(): (f"10.{number}.0.0/16", f"fd{number:02x}::/16") for number in range(200)}
    parts = [word for key, allowed in expected.items()
             for word in ("peer", key, "allowed-ips", ",".join(allowed), "persistent-keepalive", "600",
                          "endpoint", f"192.0.2.77:{int(allowed[0].split('.')[1]) + 1}")]
    tunnel.wg("set", *parts)
    listed = {key: tuple(value.split(" ")) for key, value in tunnel.show("allowed-ips").items()}
    expect(set(listed) == set(expected), f"{len(set(listed) & set(expected))} of 200 peers are listed")
    expect(all(set(listed[key]) == set(expected[key]) for key in expected), "allowed IPs are wrong")
    ports = {int(endpoint.rpartition(":")[2]) for endpoint in tunnel.show("endpoints").values()}
    expect(ports == set(range(1, 201)), "endpoints are wrong")


@check
def a_hub_with_two_hundred_peers_serves_eight_at_once(lab):
    hub, leaves = lab.star(8)
    words = []
    for number in range(192):
        words += ["peer", random_key(), "allowed-ips", f"10.78.{number}.0/24"]
    hub.wg("set", *words)
    hub.place.run("sysctl", "-qw", "net.ipv4.ip_forward=1")
    for leaf in leaves:
        expect_ping(leaf.place, hub.inner(4))
        expect_ping(leaf.place, hub.inner(6))
    for leaf, after in zip(leaves, leaves[1:] + leaves[:1]):
        expect_ping(hub.place, leaf.inner())
        expect_ping(leaf.place, after.inner())
        transfer(leaf.place, after.place, after.inner(), 1 << 20)
    dump = hub.wg("show", "dump").stdout.splitlines()[1:]
    expect(len(dump) == 200, f"{len(dump)} of 200 peers are shown")
    shaken = [line for line in dump if line.split("\t")[4] != "0"]
    expect(len(shaken) == 8, f"{len(shaken)} instead of 8 peers have had a handshake")


def quick_config(path, tunnel, other, allowed):
    path.write_text(f"""[Interface]
PrivateKey = {tunnel.private}
ListenPort = {tunnel.port}
Address = {tunnel.inner(4)}/24, {tunnel.inner(6)}/64
MTU = 1400

[Peer]
PublicKey = {other.public}
AllowedIPs = {allowed}
Endpoint = {other.place.outer()}:{other.port}
""")
    path.chmod(0o600)


@check
def wg_quick_takes_it_up_and_down(lab):
    """As it is used for everything: a default route of each family, and a mark that exempts the tunnel."""
    for program in ("wg-quick", "nft", "sysctl"):
        if shutil.which(program) is None:
            raise Skip(f"there is no {program}")
    places = lab.add_places(2)
    one, other = (lab.tunnel(place) for place in places)
    environment = f"WG_QUICK_USERSPACE_IMPLEMENTATION={node_program()}"

    def quick(tunnel, verb):
        path = lab.work / f"{tunnel.device}.conf"
        tunnel.place.run("env", environment, "LOG_LEVEL=error", "wg-quick", verb, path)

    for tunnel, peer in ((one, other), (other, one)):
        quick_config(lab.work / f"{tunnel.device}.conf", tunnel, peer, "0.0.0.0/0, ::/0")
        quick(tunnel, "up")
    expect_both_ways(one, other)
    transfer(one.place, other.place, other.inner(6), 4 << 20)
    mtu = (one.place.ip("link", "show", "dev", one.device)).stdout
    expect(" mtu 1400 " in mtu, "the MTU was not set")
    expect(int(one.wg("show", "fwmark").stdout, 0) != 0, "there is no mark")
    for tunnel in (one, other):
        quick(tunnel, "down")
        expect_gone(tunnel)


def expect_gone(tunnel):
    """Nothing is left of a node that runs in the background."""
    wait_until(lambda: not tunnel.place.processes(), 3, "the process did not end")
    tunnel.expect_gone()


@check
def in_the_background_it_returns_when_it_can_be_configured(lab):
    place = lab.add_places(1)[0]
    tunnel = lab.tunnel(place)
    start = time.monotonic()
    place.run(node_program(), tunnel.device, timeout=10)
    ready = answers(tunnel.socket_file) and place.has_device(tunnel.device)
    lab.note(f"{(time.monotonic() - start) * 1000:.0f} ms")
    expect(ready, "it has returned, and the socket or the device is not there")
    tunnel.set_up()
    expect(len(place.processes()) == 1, "there is not exactly one process")
    place.ip("link", "del", tunnel.device)
    expect_gone(tunnel)
