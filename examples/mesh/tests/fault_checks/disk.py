"""A state folder that cannot be written."""

from fault_checks import Steady, check, folder
from lab import execute, expect, wait_until
from member import LEAD, Member, everybody_up, mesh_program
from traffic import reach


@check
def a_full_disk_when_the_first_key_is_made(lab):
    place = lab.add_places(2)[0]
    member = Member(place, f"folder:{folder(lab)}")
    member.state.mkdir(mode=0o700)
    execute("mount", "-t", "tmpfs", "-o", "size=8k", "none", member.state)
    try:
        (member.state / "filler").write_bytes(bytes(4096))
        try:
            (member.state / "more").write_bytes(bytes(8192))
        except OSError:
            pass
        member.start()
        expect(member.process.wait(15) != 0, "it started without a place for its key")
        said = member.log.read_text()
        expect("The disk is full" in said, f"it did not say so: {said}")
        expect(not (member.state / "identity.json").exists(), "half a key was left")
        (member.state / "more").unlink()
        (member.state / "filler").unlink()
        member.start()
        wait_until((member.state / "control.sock").exists, 15, "it did not start with room")
        wait_until((member.state / "identity.json").exists, 5, "it made no key")
        member.kill()
    finally:
        execute("umount", "-l", member.state)


class SmallDisk:
    """A state folder on a file system that can be filled."""

    def __init__(self, member, size="256k"):
        self.folder = member.state
        self.folder.mkdir(mode=0o700)
        execute("mount", "-t", "tmpfs", "-o", f"size={size},mode=700", "none", self.folder)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        execute("umount", "-l", self.folder)

    def fill(self):
        with open(self.folder / "filler", "wb", buffering=0) as file:
            try:
                while file.write(bytes(4096)):
                    pass
            except OSError:
                pass

    def free(self):
        (self.folder / "filler").unlink()


@check
def a_disk_is_full_while_the_mesh_runs(lab):
    """Each of what is written meanwhile: keys asked for, keys that are due, what is known of others."""
    places = lab.add_places(3)
    one, two, three = (Member(place, f"folder:{folder(lab)}") for place in places)
    with SmallDisk(one) as disk:
        one.start()
        two.start()
        wait_until(lambda: everybody_up([one, two]), 20, "the mesh did not come up")
        steady = Steady((one, two))
        disk.fill()
        for verb in ("rotate", "reprovision"):
            done = one.place.run(mesh_program(), verb, "--state", one.state, check=False)
            expect(done.returncode != 0 and "disk is full" in done.stderr, f"`mesh {verb}` said {done.stderr}")
        three.start()
        wait_until(lambda: everybody_up([one, two, three]), 20, "a node could not join")
        wait_until(lambda: "what is known of others is not kept" in one.call("status"), 3, "it does not say so")
        expect(one.status()["generation"] == 1, "a key changed that is not kept")
        disk.free()
        freed = wait_until(lambda: not one.status()["state_problems"], 15, "nothing was written again")
        expect(three.name in (one.state / "known.json").read_text(), "the new node is not kept")
        one.call("rotate")
        disk.fill()
        wait_until(lambda: "our keys stay as they are" in one.call("status"), LEAD + 10, "the change went on")
        expect(two.peer(one)["generation"] == 1, "a key changed that is not kept")
        disk.free()
        taken = wait_until(lambda: two.peer(one)["generation"] == 2, 15, "the key was not changed with room")
        expect(not one.status()["state_problems"], "it still complains")
        steady.end()
        expect(steady.lost <= 5, str(steady))
        lab.note(f"written {freed:.1f} s after there was room, a key that was due {taken:.1f} s after, {steady}")
        times = one.log.read_text().count("disk is full")
        expect(times <= 10, f"the log says {times} times that the disk is full")
        one.kill()
        disk.fill()
        one.start()
        lab.note(f"started on a full disk, it is reached after {reach(two.place, one.inner, 15):.2f} s")
        one.kill()
