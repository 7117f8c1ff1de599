"""Cables that are cut, and routes that change."""

import time

from fault_checks import Steady, check, folder, is_long, mesh
from lab import expect, wait_until
from member import Member, everybody_up
from traffic import Worker, expect_ping, ping, reach


@check
def a_partition_heals_and_meanwhile_packets_are_answered(lab):
    one, two = mesh(lab, 2)
    two.place.nft("chain cut { type filter hook prerouting priority -300; udp dport 51820 drop\n }\n"
                  "chain gag { type filter hook output priority -300; udp sport 51820 drop\n }")
    one.kill()
    one.start()
    wait_until((one.state / "control.sock").exists, 10, "it did not start")
    time.sleep(1)
    pings = ping(one.place, two.inner, 60, 0.1, wait=1)
    expect(pings.lost == pings.sent and pings.unreachable > 0, "nothing was answered with ICMP")
    lab.note(f"{pings.unreachable} of {pings.sent} pings were answered with `unreachable`")
    two.place.forget()
    lab.note(f"reached {reach(one.place, two.inner, 15):.2f} s after healing")


@check
def enabled_and_disabled_under_traffic(lab):
    """A network that has a way in the clear too, as on a cluster that runs already."""
    places = lab.add_places(2)
    members = []
    for place, other in zip(places, reversed(places)):
        place.ip("addr", "add", f"10.244.{place.number}.1/24", "dev", "lo")
        place.ip("route", "add", f"10.244.{other.number}.0/24", "via", other.outer())
        more = ["--network", "10.244.0.0/16", "--subnet", f"10.244.{place.number}.0/24"]
        members.append(Member(place, f"folder:{folder(lab)}", more=more))
    one, two = members
    for member in members:
        member.start()
    wait_until(lambda: everybody_up(members), 20, "the mesh did not come up")
    for verb in ("disable", "enable"):
        worker = Worker(ping, one.place, "10.244.2.1", 1000, 0.002)
        time.sleep(0.3)
        for member in members:
            member.call(verb)
        pings = worker.outcome(30)
        inside = one.peer(two)["rx_bytes"]
        expect_ping(one.place, "10.244.2.1", count=50)
        grown = one.peer(two)["rx_bytes"] - inside
        expect((grown > 4000) == (verb == "enable"), f"after `mesh {verb}` {grown} bytes came through the tunnel")
        lab.note(f"{verb}: {pings.lost} of {pings.sent} pings lost")


@check
def a_partition_under_traffic_heals(lab):
    """Both run on. With LONG=1 it lasts for longer than a session, and than a peer tries to make a new one."""
    one, two, three = mesh(lab)
    steady, others = Steady((one, two)), Steady((one, three))
    two.place.nft("chain cut { type filter hook prerouting priority -300; udp dport 51820 drop\n }\n"
                  "chain gag { type filter hook output priority -300; udp sport 51820 drop\n }")
    start = time.monotonic()
    time.sleep(300 if is_long() else 20)
    two.place.forget()
    cut = time.monotonic() - start
    there, back = Worker(reach, one.place, two.inner, 30), Worker(reach, two.place, one.inner, 30)
    lab.note(f"cut for {cut:.0f} s, reached {there.outcome(40):.2f} and {back.outcome(40):.2f} s after healing")
    steady.end()
    others.end()
    expect(others.lost <= 5, f"others were hurt: {others}")
    expect(steady.longest * steady.interval < cut + 7, f"it lasted for longer than the cut: {steady}")
    lab.note(f"{steady}; with others {others}")
