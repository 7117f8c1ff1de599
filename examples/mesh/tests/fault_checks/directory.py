"""A folder that goes and comes."""

import time

from fault_checks import Steady, check, folder, mesh
from lab import expect, wait_until
from member import everybody_up
from traffic import expect_ping, reach


@check
def the_directory_goes_and_a_node_restarts_meanwhile(lab):
    one, two, three = mesh(lab)
    away = folder(lab).with_suffix(".away")
    folder(lab).rename(away)
    wait_until(lambda: one.status()["directory_problem"], 10, "the loss was not noticed")
    expect_ping(one.place, two.inner)
    # What is known is written once a second at most.
    kept = two.state / "known.json"
    wait_until(lambda: kept.exists() and three.name in kept.read_text(), 3, "what is known is not kept")
    two.kill()
    # An empty folder in its place is what a mount point is without its file system.
    two.start()
    lab.note(f"back without a directory after {reach(one.place, two.inner, 15):.2f} s")
    expect_ping(two.place, three.inner)
    expect_ping(one.place, three.inner)
    for left in folder(lab).iterdir() if folder(lab).exists() else []:
        left.unlink()
    if folder(lab).exists():
        folder(lab).rmdir()
    away.rename(folder(lab))
    wait_until(lambda: not one.status()["directory_problem"], 15, "the return was not noticed")
    wait_until(lambda: everybody_up([one, two, three]), 15, "the mesh was not whole again")


@check
def a_folder_that_is_suddenly_empty_ends_nothing(lab):
    """As when the file system is taken from its mount point: nobody sees it without the folder."""
    members = mesh(lab)
    one, two, three = members
    steady = Steady((one, two), (two, three))
    away = folder(lab).with_suffix(".away")
    folder(lab).rename(away)
    folder(lab).mkdir()
    wait_until(lambda: all(member.status()["directory_problem"] for member in members), 10, "it was not noticed")
    time.sleep(1.5)
    expect(three.name in (one.state / "known.json").read_text(), "what is known was forgotten")
    folder(lab).rmdir()
    away.rename(folder(lab))
    wait_until(lambda: not any(member.status()["directory_problem"] for member in members), 15,
               "the return was not noticed")
    wait_until(lambda: everybody_up(members), 15, "the mesh was not whole again")
    steady.end()
    expect(steady.lost <= 5, str(steady))
    lab.note(str(steady))
