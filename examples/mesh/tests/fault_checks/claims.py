"""What several nodes say is theirs."""

import time

from fault_checks import Steady, check, folder, mesh, put, record_of, refused
from lab import Lab, execute, expect, preshared_key, wait_until
from member import Member, everybody_up
from traffic import expect_ping, ping, reach


@check
def two_nodes_claim_one_subnet(lab):
    one, two = mesh(lab, 2)
    thief = record_of(lab, two.name) | {"name": "thief", "key": preshared_key().strip(), "addresses": ["10.88.0.9"]}
    put(lab, "thief", thief | {"subnets": ["10.88.0.0/28"]})
    wait_until(lambda: refused(one, "thief", "it claims"), 5, "the claim was not refused")
    put(lab, "thief", thief | {"addresses": [two.inner]})
    wait_until(lambda: refused(one, "thief", two.inner), 5, "the claim was not refused")
    put(lab, "thief", thief | {"key": record_of(lab, two.name)["key"]})
    wait_until(lambda: refused(one, "thief", "its key is"), 5, "the key was not refused")
    put(lab, "thief", "{")
    wait_until(lambda: refused(one, "thief", "malformed"), 5, "the record was not refused")
    expect_ping(one.place, two.inner)


@check
def a_record_is_changed_by_another(lab):
    one, two, three = mesh(lab)
    record = record_of(lab, two.name)
    put(lab, two.name, record | {"key": preshared_key().strip()})
    wait_until(lambda: refused(one, two.name, "another key"), 5, "the key was not refused")
    expect(refused(two, two.name, "our name"), "the node itself was not told")
    lost = ping(one.place, two.inner, 200, 0.005).lost
    wait_until(lambda: record_of(lab, two.name) == record, 10, "the record was not put back")
    wait_until(lambda: not one.status()["refusals"], 5, "it is still refused")
    expect(lost == 0, f"{lost} pings were lost")
    (folder(lab) / f"{three.name}.json").unlink()
    wait_until(lambda: (folder(lab) / f"{three.name}.json").exists(), 10, "the record was not put back")
    lab.note(f"its tunnel is back {reach(one.place, three.inner, 10):.2f} s after that")


def owner(lab, asker, members, address="10.88.77.1"):
    """Through whose tunnel the address answers."""
    before = {member.name: (asker.peer(member) or {"rx_bytes": 0})["rx_bytes"] for member in members}
    expect_ping(asker.place, address, count=100, interval=0.002, size=1000)
    grown = [member for member in members if (asker.peer(member) or {"rx_bytes": 0})["rx_bytes"]
             - before[member.name] > 100_000]
    expect(len(grown) == 1, "more or fewer than one node answers for the subnet")
    return grown[0]


@check
def two_real_nodes_are_given_one_subnet(lab):
    """Started in both orders, and after a restart of all: who had it keeps it, and the other is refused."""
    for order in ((0, 1), (1, 0)):
        with Lab() as inner:
            places = inner.add_places(3)
            for place in places[:2]:
                place.ip("addr", "add", "10.88.77.1/32", "dev", "lo")
            asker = Member(places[2], f"folder:{folder(inner)}")
            both = [Member(place, f"folder:{folder(inner)}", more=["--subnet", "10.88.77.0/24"])
                    for place in places[:2]]
            first, second = both[order[0]], both[order[1]]
            asker.start()
            first.start()
            wait_until(lambda: everybody_up([asker, first]), 20, "the mesh did not come up")
            steady = Steady((asker, first))
            # Records say in seconds since when; within the same one the name would decide.
            time.sleep(1.1)
            second.start()
            wait_until(lambda: refused(asker, second.name, "it claims 10.88.77.0/24"), 10, "the claim was not refused")
            expect(asker.peer(second) is None, "the claim was applied")
            expect(owner(inner, asker, both) is first, "the subnet went to the second")
            lost = steady.end()
            expect(lost.lost == 0, str(lost))
            for member in (asker, *both):
                member.kill()
            # Who is early now has no more of a right than who was so then.
            for member in (second, asker, first):
                member.start()
                wait_until(member.answers, 10, "it did not start")
            wait_until(lambda: refused(asker, second.name, "it claims 10.88.77.0/24"), 10, "the claim was not refused")
            taken = reach(asker.place, first.inner, 15)
            expect(owner(inner, asker, both) is first, "the subnet went to the second after a restart of all")
            asker.kill()
            execute("rm", "-r", asker.state)
            asker.start()
            wait_until(lambda: asker.answers() and refused(asker, second.name, "it claims"), 15, "it was not refused")
            reach(asker.place, first.inner, 15)
            expect(owner(inner, asker, both) is first, "who knows neither gave the subnet to the second")
            lab.note(f"{first.name} first: {lost}, and reached {taken:.2f} s after a restart of all")
