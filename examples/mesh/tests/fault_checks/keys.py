"""Keys that change, by themselves and under hands that are not theirs."""

import time

from fault_checks import check, folder, mesh, put, record_of, under_traffic
from lab import execute, expect, preshared_key, wait_until
from member import LEAD, Member
from traffic import Capture, Worker, expect_ping, ping, reach, transfer, udp_ports


@check
def both_ends_change_their_keys_at_once(lab):
    one, two = mesh(lab, 2)

    def act():
        one.call("rotate")
        two.call("rotate")

    lost, sent = under_traffic(one, two, LEAD + 5, act)
    expect(one.peer(two)["generation"] == 2 and two.peer(one)["generation"] == 2, "a key was not changed")
    expect(lost <= 5, f"{lost} of {sent} pings were lost")
    lab.note(f"{lost} of {sent} pings lost")


@check
def keys_of_three_nodes_change_again_and_again_under_load(lab):
    members = mesh(lab, 3, 1)
    one, two, three = members

    def change(generation):
        for member in members:
            member.call("rotate")
        wait_until(lambda: {member.status()["generation"] for member in members} == {generation}, 10,
                   "a key was not changed")

    loads = [Worker(ping, a.place, b.inner, 7000, 0.001) for a, b in ((one, two), (two, three))]
    for generation in range(2, 6):
        change(generation)
    made = [load.outcome(60) for load in loads]
    lost, sent = sum(pings.lost for pings in made), sum(pings.sent for pings in made)
    expect(lost <= sent // 200, f"{lost} of {sent} pings were lost")
    # Beside a transfer at full speed pings are lost without any change, so they are not counted then.
    load = Worker(transfer, three.place, one.place, one.inner, 400 << 20, 4)
    for generation in range(6, 8):
        change(generation)
    lab.note(f"12 changes: {lost} of {sent} pings lost; 6 more while 400 MiB were carried in {load.outcome(60):.1f} s")


@check
def a_restart_in_the_middle_of_a_change_of_keys(lab):
    one, two = mesh(lab, 2)
    one.call("rotate")
    one.kill()
    one.start()
    wait_until(lambda: ping(two.place, one.inner, 1, wait=0.2).lost == 0, 10, "it did not come back")
    wait_until(lambda: two.peer(one)["generation"] == 2, LEAD + 10, "the key was not changed")
    expect_ping(two.place, one.inner)


@check
def a_preshared_key_is_replaced_while_running(lab):
    one, two = mesh(lab, 2)
    psk = preshared_key()
    for member, other in ((one, two), (two, one)):
        (member.state / "psk").mkdir(mode=0o700)
        path = member.state / "psk" / other.name
        path.touch(0o600)
        path.write_text(psk)
    lost, sent = under_traffic(one, two, 2, lambda: [member.call("reread") for member in (one, two)])
    expect(one.peer(two)["has_psk"] and two.peer(one)["has_psk"], "it is not in use")
    expect(lost == 0, f"{lost} of {sent} pings were lost")
    one.kill()
    one.start()
    lab.note(f"a handshake with it stands {reach(one.place, two.inner, 15):.2f} s after a restart")


@check
def a_node_that_has_lost_its_state_comes_back(lab):
    one, two = mesh(lab, 2)
    two.kill()
    execute("rm", "-r", two.state)
    two.start()
    lab.note(f"reached again after {reach(one.place, two.inner, 15):.2f} s")
    expect(one.peer(two)["generation"] == 2, "its generation is no newer one")
    one.call("reprovision")
    lab.note(f"and {reach(two.place, one.inner, 15):.2f} s after `mesh reprovision`")


@check
def a_new_key_greets_very_many_nodes_in_portions(lab):
    """All at once, their answers would be more handshake messages than a node believes without cookies."""
    places, count = lab.add_places(2), 600
    one = Member(places[0], f"folder:{folder(lab)}", more=["--keepalive", "0"])
    one.probe = []
    one.start()
    wait_until(lambda: (folder(lab) / f"{one.name}.json").exists(), 10, "it did not start")
    record = record_of(lab, one.name) | {"endpoints": [f"{places[1].outer()}:51820"]}
    for number in range(count):
        address = f"10.88.{1 + number // 250}.{number % 250}"
        more = {"name": f"far-{number}", "key": preshared_key().strip(), "addresses": [address]}
        put(lab, more["name"], record | more)
    wait_until(lambda: len(one.status()["peers"]) == count, 20, "it did not take the records")
    cable = Capture(places[1], "cable")
    one.call("rotate")
    # To the nanosecond when each came is not needed: the pause between portions is half a second.
    greeted, told, end = [], 0, time.monotonic() + LEAD + 3
    cable.socket.settimeout(0.1)
    while time.monotonic() < end:
        try:
            frame = cable.socket.recv(65535)
        except TimeoutError:
            continue
        if udp_ports(frame) and frame[42] == 1:
            greeted.append(time.monotonic())
            told = told or record_of(lab, one.name)["generation"] == 2 and len(greeted)
    cable.end()
    # Whoever reads it earlier greets us, all at the same time. The last portion goes out just before it.
    expect(not told or told > 512, f"its record had the new key when {told} were greeted")
    expect(record_of(lab, one.name)["generation"] == 2, "its record has not the new key")
    most = max(sum(at <= other < at + 0.4 for other in greeted) for at in greeted)
    expect(len(greeted) == count, f"{len(greeted)} greetings to {count} nodes")
    expect(100 < most <= 256, f"{most} greetings within 0.4 s")
    lab.note(f"{count} greeted in {greeted[-1] - greeted[0]:.1f} s, at most {most} within 0.4 s")
