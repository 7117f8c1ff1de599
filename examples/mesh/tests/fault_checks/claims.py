"""What several nodes say is theirs."""

from fault_checks import check, folder, mesh, put, record_of, refused
from lab import expect, preshared_key, wait_until
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
