"""A state folder that cannot be written."""

from fault_checks import check, folder
from lab import execute, expect, wait_until
from member import Member


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
