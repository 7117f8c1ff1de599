"""A real etcd of three members, with TLS, that stops, forgets, and loses a disk."""

import time

from fault_checks import Steady, check, etcd_mesh, is_long, said
from lab import expect, wait_until
from member import LEAD, everybody_up, mesh_program
from traffic import expect_silence, reach


def since(start):
    return f"{time.monotonic() - start:.1f} s"


def rotated(one, others, generation, within):
    """How long until the others use this key of a node."""
    return wait_until(lambda: all(other.peer(one)["generation"] == generation for other in others), within,
                      f"{one.name} has no key of generation {generation}")


@check
def all_of_etcd_stops_for_a_while_and_starts_with_changes(lab):
    """Meanwhile a key is to change, a node restarts with another address and a subnet, and a new one wants to join.
    One node's record has a lease that is far shorter: it ends with the node, and not with etcd."""
    etcd, members = etcd_mesh(lab, 3, 1)
    one, two, three, four = members
    # Longer than the pauses between the tries of those who are to know the key before it is used.
    for member, lead, ttl in ((one, 13, ""), (two, LEAD, "&ttl=5s")):
        member.kill()
        member.lead, member.directory = lead, member.directory + ttl
        member.start()
    wait_until(lambda: everybody_up(members[:3]), 20, "the mesh is not whole")
    start, steady = time.monotonic(), Steady((one, two))
    etcd.run("stop")
    for member in (one, two, three):
        wait_until(lambda: member.status()["directory_problem"], 20, "the loss was not noticed")
    # It says that it could not, so it must not do it later.
    left = two.place.run(mesh_program(), "leave", "--state", two.state, check=False)
    expect(left.returncode != 0, f"it left without a directory: {left.stdout}")
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
    wait_until(lambda: said(one, "our new key waits"), one.lead + 10, "the change of keys did not wait")
    expect(four.status()["directory_problem"] and not four.status()["is_published"], "it says nothing of the directory")
    expect_silence(four.place, one.inner)
    time.sleep(max(0, (180 if is_long() else 15) - (time.monotonic() - start)))
    expect(one.status()["generation"] == 1, "a key changed that nobody could know")
    lab.note(f"etcd was away for {since(start)}")
    etcd.run("start")
    back = time.monotonic()
    wait_until(lambda: everybody_up(members), 60, "the mesh is not whole again")
    lab.note(f"all four know each other {since(back)} after its start")
    wait_until(lambda: all("10.88.77.0/24" in other.peer(three)["allowed"] for other in (one, two, four)), 60,
               "the subnet was not taken")
    expect(one.peer(three)["endpoint"].startswith(three.endpoint), "the address was not taken")
    rotated(one, (two, three, four), 2, one.lead + 60)
    lab.note(f"all changes are in force after {since(back)}, of which the key was announced {one.lead} s ahead")
    steady.end()
    expect(steady.lost <= 5, str(steady))
    lab.note(str(steady))
    two.kill()
    died = time.monotonic()
    wait_until(lambda: one.peer(two) is None, 30, "the record of a dead node stays")
    lab.note(f"a dead node with a lease of 5 s is forgotten after {since(died)}")
    two.start()
    lab.note(f"and reached {reach(one.place, two.inner, 20):.2f} s after its next start")
    expect(etcd.record(three.name), "the record of a node without a lease is gone")


@check
def a_member_of_etcd_stops_and_then_loses_its_disk(lab):
    """A node has that member only, and nothing is left of how the others came to their keys meanwhile."""
    etcd, (one, two, three) = etcd_mesh(lab)
    three.kill()
    three.directory = etcd.only(three.directory, 3)
    three.start()
    wait_until(lambda: everybody_up([one, two, three]), 20, "the mesh is not whole")
    steady, behind = Steady((one, two)), Steady((one, three))
    etcd.run("stop", 3)
    wait_until(lambda: three.status()["directory_problem"], 30, "the loss was not noticed")
    for member, other in ((one, two), (two, one)):
        member.call("rotate")
        taken = rotated(member, (other,), 2, LEAD + 20)
    lab.note(f"without a member a key announced {LEAD} s ahead is in use after {taken:.1f} s")
    number = etcd.ctl("get", "x", "-w", "fields").split('"Revision" : ')[1].split()[0]
    etcd.ctl("compaction", number)
    start = time.monotonic()
    etcd.run("start", 3)
    rotated(one, (three,), 2, 40)
    rotated(two, (three,), 2, 10)
    lab.note(f"who was away knows the keys {since(start)} after the member's start, although etcd forgot the changes")
    # Who cannot be told of a new key loses that node until then.
    lab.note(f"{behind.end()} with who was away")

    etcd.run("kill", 3)
    etcd.wipe(3)
    expect(etcd.run("start", 3, check=False).returncode != 0, "a member without its data is taken for the same")
    one.call("rotate")
    rotated(one, (two,), 3, LEAD + 30)
    etcd.run("replace", 3)
    rotated(one, (three,), 3, 40)
    # The new member has everything, and counts: another one can stop.
    etcd.run("stop", 1)
    two.call("rotate")
    rotated(two, (one, three), 3, LEAD + 30)
    steady.end()
    expect(steady.lost <= 5, str(steady))
    lab.note(f"another disk: {steady}")


@check
def etcd_comes_back_without_any_record(lab):
    """As from an old backup: each node puts its own in place again, and no tunnel ends meanwhile."""
    etcd, members = etcd_mesh(lab)
    one, two, three = members
    steady, of_one = Steady((two, three)), Steady((one, two), (three, one))
    etcd.run("kill")
    for member in members:
        wait_until(lambda: member.status()["directory_problem"], 20, "the loss was not noticed")
        member.place.nft("chain away { type filter hook output priority 0; tcp dport 2379 reject with tcp reset\n }")
    etcd.run("start")
    etcd.ctl("del", "--prefix", "/quietwire/mesh/nodes/")
    # One by one, so that those who are early find few others.
    start = time.monotonic()
    for member in members:
        member.place.forget()
        wait_until(lambda: etcd.record(member.name), 40, "the record was not put back")
        if member is one:
            of_one.end()
            # What it reads first lacks the others, of which it knows from before.
            one.kill()
            one.log.unlink()
            one.start()
            wait_until(one.answers, 10, "it did not start")
            wait_until(lambda: said(one, "the directory is without"), 10, "it did not miss the others")
            expect(one.peer(two) and one.peer(three), "who is missing was forgotten at once")
    wait_until(lambda: everybody_up(members), 20, "the mesh is not whole again")
    for pings in (steady.end(), of_one):
        expect(pings.lost <= 5, str(pings))
        lab.note(f"{pings}")
    lab.note(f"all are back after {since(start)}")
