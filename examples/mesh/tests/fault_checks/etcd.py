"""A real etcd of three members, with TLS, that stops, forgets, and loses a disk."""

import time

from fault_checks import Steady, check, etcd_mesh, is_long, said
from lab import expect, wait_until
from member import LEAD, everybody_up
from traffic import expect_silence, reach


def since(start):
    return f"{time.monotonic() - start:.1f} s"


def cut_off(member):
    """From all of etcd, as by a firewall."""
    member.place.nft("chain away { type filter hook output priority 0; tcp dport 2379 reject with tcp reset\n }")
    wait_until(lambda: member.status()["directory_problem"], 30, "the loss was not noticed")


def rotated(one, others, generation, within):
    """How long until the others use this key of a node."""
    return wait_until(lambda: all(other.peer(one)["generation"] == generation for other in others), within,
                      f"{one.name} has no key of generation {generation}")


@check
def one_member_of_etcd_stops_and_changes_arrive(lab):
    etcd, members = etcd_mesh(lab)
    one, two, three = members
    steady = Steady((one, two), (two, three))
    for number, verb in enumerate(("stop", "kill", "stop"), 1):
        etcd.run(verb, number)
        one.call("rotate")
        taken = rotated(one, (two, three), number + 1, LEAD + 30)
        lab.note(f"without member {number} a key announced {LEAD} s ahead is in use everywhere after {taken:.1f} s")
        etcd.run("start", number)
    steady.end()
    expect(steady.lost <= 5, str(steady))
    lab.note(str(steady))


@check
def all_of_etcd_stops_for_a_while_and_starts_with_changes(lab):
    """Meanwhile a key is to change, a node restarts with another address and a subnet, and a new one wants to join."""
    etcd, members = etcd_mesh(lab, 3, 1)
    one, two, three, four = members
    start, steady = time.monotonic(), Steady((one, two))
    etcd.run("stop")
    for member in (one, two, three):
        wait_until(lambda: member.status()["directory_problem"], 20, "the loss was not noticed")
    one.call("rotate")
    three.kill()
    three.endpoint = "192.0.2.103"
    three.place.ip("addr", "del", f"{three.place.outer()}/24", "dev", "cable")
    three.place.ip("addr", "add", f"{three.endpoint}/24", "dev", "cable")
    three.more += ["--subnet", "10.88.77.0/24"]
    three.start()
    there, here = reach(one.place, three.inner, 20), reach(three.place, two.inner, 5)
    lab.note(f"a node restarted meanwhile is reached after {there:.2f} s and reaches {here:.2f} s later")
    four.start()
    wait_until(four.answers, 20, "the new node did not start")
    wait_until(lambda: said(one, "our new key waits"), LEAD + 10, "the change of keys did not wait")
    expect(four.status()["directory_problem"] and not four.status()["is_published"], "it says nothing of the directory")
    expect_silence(four.place, one.inner)
    time.sleep(max(0, (180 if is_long() else 20) - (time.monotonic() - start)))
    expect(one.status()["generation"] == 1, "a key changed that nobody could know")
    lab.note(f"etcd was away for {since(start)}")
    etcd.run("start")
    back = time.monotonic()
    wait_until(lambda: everybody_up(members), 60, "the mesh is not whole again")
    lab.note(f"all four know each other {since(back)} after its start")
    wait_until(lambda: all("10.88.77.0/24" in other.peer(three)["allowed"] for other in (one, two, four)), 60,
               "the subnet was not taken")
    expect(one.peer(three)["endpoint"].startswith(three.endpoint), "the address was not taken")
    rotated(one, (two, three, four), 2, LEAD + 60)
    lab.note(f"all changes are in force after {since(back)}")
    steady.end()
    expect(steady.lost <= 5, str(steady))
    lab.note(str(steady))


@check
def etcd_forgets_the_changes_while_a_node_is_cut_off(lab):
    etcd, (one, two, three) = etcd_mesh(lab)
    steady, behind = Steady((one, two)), Steady((one, three))
    cut_off(three)
    one.call("rotate")
    rotated(one, (two,), 2, LEAD + 10)
    two.call("rotate")
    rotated(two, (one,), 2, LEAD + 10)
    # Two changes later nothing is left of how it came about.
    number = etcd.ctl("get", "x", "-w", "fields").split('"Revision" : ')[1].split()[0]
    etcd.ctl("compaction", number)
    three.place.forget()
    start = time.monotonic()
    rotated(two, (three,), 2, 40)
    rotated(one, (three,), 2, 10)
    lab.note(f"it knows the changed keys {since(start)} later")
    steady.end()
    expect(steady.lost <= 5, str(steady))
    # Who cannot be told of a new key loses that node until then.
    lab.note(f"{steady}; with the node that was cut off: {behind.end()}")


@check
def etcd_comes_back_without_any_record(lab):
    """As from an old backup: each node puts its own in place again, and no tunnel ends meanwhile."""
    etcd, members = etcd_mesh(lab)
    one, two, three = members
    steady = Steady((one, two), (two, three), (three, one))
    for member in members:
        cut_off(member)
    etcd.ctl("del", "--prefix", "/quietwire/mesh/nodes/")
    # One by one, so that those who are early find few others.
    for member in members:
        member.place.forget()
        wait_until(lambda: etcd.record(member.name), 40, "the record was not put back")
    wait_until(lambda: everybody_up(members), 20, "the mesh is not whole again")
    steady.end()
    expect(steady.lost <= 5, str(steady))
    lab.note(str(steady))


@check
def a_lease_ends_with_its_node_and_not_with_etcd(lab):
    etcd, members = etcd_mesh(lab, ttl="&ttl=5s")
    one, two, three = members
    steady = Steady((one, two))
    etcd.run("kill")
    time.sleep(10)
    etcd.run("start")
    for member in members:
        expect(etcd.record(member.name), f"the record of {member.name} is gone, although it lives")
    wait_until(lambda: not any(member.status()["directory_problem"] for member in members), 40, "etcd was not found")
    steady.end()
    expect(steady.lost == 0, f"etcd was away for two leases: {steady}")
    lab.note(f"etcd was away for two leases: {steady}")
    three.kill()
    start = time.monotonic()
    wait_until(lambda: one.peer(three) is None, 30, "the record of a dead node stays")
    lab.note(f"a dead node with a lease of 5 s is forgotten after {since(start)}")
    three.start()
    lab.note(f"and reached {reach(one.place, three.inner, 20):.2f} s after its next start")


@check
def a_member_of_etcd_loses_its_disk(lab):
    etcd, (one, two, three) = etcd_mesh(lab)
    steady = Steady((one, two), (two, three))
    etcd.run("kill", 1)
    etcd.wipe(1)
    expect(etcd.run("start", 1, check=False).returncode != 0, "a member without its data is taken for the same")
    one.call("rotate")
    rotated(one, (two, three), 2, LEAD + 30)
    etcd.run("replace", 1)
    # The new one has everything: it can do with another one that is not lost.
    etcd.run("stop", 2)
    one.call("rotate")
    rotated(one, (two, three), 3, LEAD + 30)
    steady.end()
    expect(steady.lost <= 5, str(steady))
    lab.note(str(steady))
