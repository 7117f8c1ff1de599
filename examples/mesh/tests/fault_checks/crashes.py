"""Nodes that are killed at any moment."""

import json
import os
import random
import time

from fault_checks import check, folder, is_long, mesh, record_of
from lab import expect, public_key, wait_until
from traffic import Worker, reach


def identity(member):
    """Its generation and public key as they are on its disk."""
    kept = json.loads((member.state / "identity.json").read_text())
    return kept["generation"], public_key(kept["private_key"])


def quietly(member, verb):
    """A command whose process may be killed while it is obeyed."""
    member.place.run("env", os.environ["MESH"], verb, "--state", member.state, check=False)


def is_in_order(lab, member, others):
    """Whether its disk, its record and what the others use are the same, with nothing under way."""
    if not member.answers() or not (folder(lab) / f"{member.name}.json").exists():
        return False
    status, record = member.status(), record_of(lab, member.name)
    if status["switch_at"] or (record["generation"], record["key"]) != identity(member):
        return False
    peers = [other.peer(member) for other in others]
    return status["key"] == record["key"] and all(peer and peer["key"] == record["key"] for peer in peers)


@check
def a_node_is_killed_at_any_moment(lab):
    """While it starts, changes its key, takes a new one at once, or leaves; and it always comes back."""
    seed = int(os.environ.get("SEED") or random.randrange(1 << 32))
    print(f"SEED={seed}", flush=True)
    chance = random.Random(seed)
    members = mesh(lab, 3, 1)
    victim, *others = members
    times, slowest, last = 300 if is_long() else 30, 0.0, 0
    for _ in range(times):
        verb = chance.choice(["start", "rotate", "rotate", "reprovision", "leave"])
        if verb == "start":
            victim.kill()
            victim.start()
            worker = None
        else:
            worker = Worker(quietly, victim, verb)
        time.sleep(chance.uniform(0, 1.6 if verb == "rotate" else 0.25))
        victim.kill()
        if worker:
            worker.outcome(30)
        for name in ("identity.json", "known.json", "times.json"):
            json.loads((victim.state / name).read_text())
        victim.start()
        start = time.monotonic()
        there = Worker(reach, others[0].place, victim.inner, 20)
        reach(victim.place, others[1].inner, 20)
        there.outcome(30)
        slowest = max(slowest, time.monotonic() - start)
        generation, _ = identity(victim)
        expect(generation >= last, f"the generation went back from {last} to {generation} after `{verb}`")
        last = generation
    wait_until(lambda: is_in_order(lab, victim, others), 10, "its disk, its record and the others do not agree")
    expect(not any(other.status()["refusals"] for other in others), "something of it is refused")
    left = sorted(path.name for path in victim.state.iterdir())
    expect(left == ["control.sock", "identity.json", "known.json", "lock", "times.json"], f"its folder has {left}")
    lab.note(f"{times} times, seed {seed}: back after at most {slowest:.2f} s, at generation {last}")
