"""Clocks that are wrong, really: one process is told another time by a library before the system's."""

import shutil

from fault_checks import Steady, check, etcd_mesh, folder, mesh, said
from lab import Skip, execute, expect, wait_until
from member import LEAD, Member, everybody_up
from traffic import Worker, expect_ping, reach

DAY = 86_400


# libfaketime would also bend the timers that go by a clock that is right, and leaves shared memory behind.
LIBRARY = r"""
#include <fcntl.h>
#include <stdlib.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

int clock_gettime(clockid_t clock, struct timespec *time) {
    char text[32] = "";
    int file, failed = syscall(SYS_clock_gettime, clock, time);
    if (!failed && clock == CLOCK_REALTIME && (file = open(getenv("CLOCK_OFF_BY"), O_RDONLY | O_CLOEXEC)) >= 0) {
        if (read(file, text, sizeof text - 1) > 0)
            time->tv_sec += atol(text);
        close(file);
    }
    return failed;
}
"""


def library(lab):
    """What is to be preloaded so that a process's wall clock is wrong, and nothing else."""
    path = lab.work / "clock.so"
    if not path.exists():
        if shutil.which("cc") is None:
            raise Skip("there is no cc")
        execute("cc", "-shared", "-fPIC", "-O2", "-x", "c", "-o", path, "-", given=LIBRARY)
    return path


def set_clock(member, seconds):
    """From its next start on its clock is off by so much, or at once if that is not the first time."""
    path = member.place.lab.work / f"{member.name}.clock"
    new = path.with_suffix(".new")
    new.write_text(f"{seconds:+d}")
    new.rename(path)
    member.environment = {"LD_PRELOAD": str(library(member.place.lab)), "CLOCK_OFF_BY": str(path)}


def restart(member):
    member.kill()
    member.start()
    wait_until(member.answers, 10, "it did not start")


def back(one, two, within):
    """Both ways at once: how long after a restart of one until it is reached, and until it reaches."""
    there, here = Worker(reach, two.place, one.inner, within), Worker(reach, one.place, two.inner, within)
    return there.outcome(within + 5), here.outcome(within + 5)


@check
def a_clock_is_a_day_wrong_and_is_put_right(lab):
    """Each wrong clock is followed by a restart with a right one. Peers believe only later times than before."""
    one, two = mesh(lab, 2)
    for seconds in (DAY, -DAY):
        set_clock(two, seconds)
        restart(two)
        wait_until(lambda: everybody_up([one, two]), 30, "the mesh did not come up")
        steady = Steady((one, two))
        generation = one.peer(two)["generation"]
        two.call("rotate")
        one.call("rotate")
        wait_until(lambda: one.peer(two)["generation"] == generation + 1, LEAD + 10, "the key was not changed")
        steady.end()
        expect(steady.lost <= 5, f"{steady} while keys changed with a clock that is wrong")
        lab.note(f"{'a day ahead' if seconds > 0 else 'a day behind'}: {steady} while both keys changed")
    # Behind after ahead: what it has shown before is two days later.
    two.call("rotate")
    wait_until(lambda: one.peer(two)["next_generation"] is None, LEAD + 10, "the key was not changed")
    expect("clock is 48 h behind" in two.call("status"), f"the status says nothing: {two.call('status')}")

@check
def a_node_restarts_with_an_earlier_clock(lab):
    """Its handshakes are to be believed at once, also where nobody else has a reason to begin one."""
    one, two = mesh(lab, 2)
    set_clock(two, DAY)
    restart(two)
    wait_until(lambda: everybody_up([one, two]), 30, "the mesh did not come up")
    for name, seconds in (("right", 0), ("a day behind", -DAY)):
        set_clock(two, seconds)
        restart(two)
        lab.note(f"now {name}: it reaches the other after {reach(two.place, one.inner, 240):.2f} s")
        lab.note(f"is reached {reach(one.place, two.inner, 240):.2f} s later")
        wait_until(lambda: said(two, "behind what it has said before"), 5, "it said nothing about its clock")
    expect("behind what it has said before" in two.call("status"), "its status says nothing about its clock")


@check
def a_clock_jumps_under_a_key_that_changes_by_itself(lab):
    places = lab.add_places(2)
    one, two = (Member(place, f"folder:{folder(lab)}", more=["--rotate-every", "30d"]) for place in places)
    set_clock(two, 0)
    for member in (one, two):
        member.start()
    wait_until(lambda: everybody_up([one, two]), 20, "the mesh did not come up")
    steady = Steady((one, two))

    def changes(generation):
        # To ask for the status wakes it, which otherwise looks at its clock each minute.
        wait_until(lambda: two.status() and one.peer(two)["generation"] == generation, LEAD + 10,
                   f"the key of generation {generation} is not in use")

    set_clock(two, 31 * DAY)
    changes(2)
    set_clock(two, 0)
    wait_until(lambda: two.status() and said(two, "counts from now on"), 5, "the jump back was not noticed")
    set_clock(two, 31 * DAY)
    changes(3)
    # In the middle of a change, a day to either side.
    for seconds in (30 * DAY, 32 * DAY):
        two.call("rotate")
        generation = two.status()["generation"]
        set_clock(two, seconds)
        changes(generation + 1)
    steady.end()
    expect(steady.lost <= 5, str(steady))
    lab.note(f"4 changes of a key, 4 jumps: {steady}")


@check
def a_clock_that_no_certificate_is_valid_by(lab):
    """A directory in etcd with TLS: it cannot be used then, which is said, and the mesh goes on."""
    _, (one, two) = etcd_mesh(lab, 2)
    clocks = {"a day behind": (-DAY, False), "a day ahead": (DAY, True), "400 days ahead": (400 * DAY, False)}
    for name, (seconds, is_valid) in clocks.items():
        set_clock(two, seconds)
        restart(two)
        there, here = back(one, two, 30)
        steady = Steady((one, two))
        if is_valid:
            wait_until(lambda: two.status()["is_published"], 20, "the directory cannot be used")
        else:
            wait_until(lambda: two.status()["directory_problem"], 30, "the directory was used")
            problem = two.status()["directory_problem"]
            expect("the clock of this machine is wrong" in problem, f"the clock is no suspect: {problem}")
        expect(steady.end().lost == 0, str(steady))
        lab.note(f"{name}: reached after {there:.2f} s, reaches after {here:.2f} s, then {steady}")
    set_clock(two, 0)
    restart(two)
    wait_until(lambda: two.status()["is_published"], 30, "the directory cannot be used with a right clock")
    expect_ping(one.place, two.inner)
