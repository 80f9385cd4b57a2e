from bridge.pbx.inventory import Inventory, arguments


def channel(channel_id, application="Stasis", data="ari-bridge,demo"):
    return {"id": channel_id, "dialplan": {"app_name": application, "app_data": data}}


def inventory(app=(), channels=(), bridges=()):
    return Inventory.of({"channel_ids": list(app)}, list(channels), [{"id": b} for b in bridges])


MEDIA = "ari-bridge-1.1-aaaaaa-1"
BRIDGE = "ari-bridge-1.1-aaaaaa"


def test_callers_are_what_we_did_not_make_and_is_in_stasis():
    there = inventory(
        app=["1.1", "2.1", "3.1", MEDIA],
        # 3.1 is in the application's list and ended before the list of channels was made
        channels=[channel("1.1"), channel("2.1", "Dial"), channel(MEDIA), channel("4.1")],
    )
    assert [c.id for c in there.callers()] == ["1.1"]


def test_arguments_as_stasis_start_tells_them():
    (caller,) = inventory(app=["1"], channels=[channel("1", data="app,demo,two")]).callers()
    assert arguments(caller) == ("demo", "two")
    (caller,) = inventory(app=["1"], channels=[channel("1", data="app")]).callers()
    assert arguments(caller) == ()


def test_a_living_legs_things_are_no_orphans():
    there = inventory(channels=[channel("1.1"), channel(MEDIA)], bridges=[BRIDGE])
    assert there.orphans({"1.1": ("aaaaaa",)}) == {}


def test_a_predecessors_things_are_orphans():
    there = inventory(channels=[channel("1.1"), channel(MEDIA)], bridges=[BRIDGE])
    assert set(there.orphans({"1.1": ("bbbbbb",)})) == {MEDIA, BRIDGE}


def test_who_listens_is_ours_and_a_predecessors_listener_is_an_orphan():
    ours, theirs = "ari-bridge-1.1-cccccc-s1", "ari-bridge-1.1-dddddd-s1"
    there = inventory(
        channels=[channel(id_) for id_ in ("1.1", MEDIA, ours, theirs)],
        bridges=[BRIDGE, "ari-bridge-1.1-dddddd-b1"],
    )
    found = there.orphans({"1.1": ("aaaaaa", "cccccc")})
    assert set(found) == {theirs, "ari-bridge-1.1-dddddd-b1"}


def test_things_of_a_caller_who_is_gone_are_orphans():
    there = inventory(channels=[channel("2.1"), channel(MEDIA)], bridges=[BRIDGE])
    assert set(there.orphans({})) == {MEDIA, BRIDGE}


def test_things_of_a_caller_who_went_on_are_orphans():
    there = inventory(channels=[channel("1.1", "Dial"), channel(MEDIA)], bridges=[BRIDGE])
    assert set(there.orphans({})) == {MEDIA, BRIDGE}


def test_things_of_a_caller_in_stasis_whom_we_do_not_know_are_anothers():
    there = inventory(channels=[channel("1.1"), channel(MEDIA)], bridges=[BRIDGE])
    assert there.orphans({}) == {}


def test_what_is_not_ours_is_never_an_orphan():
    there = inventory(channels=[channel("9.9", "Dial")], bridges=["6f0c9a8e", "ari-bridge-9.9"])
    assert there.orphans({}) == {}


CALLEE = "ari-bridge-1.1-aaaaaa-t1"


def test_whom_we_rang_is_an_orphan_until_he_talks_to_somebody():
    there = inventory(channels=[channel("1.1", "Bridge"), channel(CALLEE)])
    assert set(there.orphans({})) == {CALLEE}
    talk = {"id": "6f0c", "bridge_class": "basic", "channels": ["1.1", CALLEE]}
    channels = [channel("2.1"), channel(CALLEE)]  # the caller has handed the talk on meanwhile
    there = Inventory.of({"channel_ids": []}, channels, [talk])
    assert there.orphans({"1.1": ("bbbbbb",)}) == {}
    ours = {"id": BRIDGE, "bridge_class": "stasis", "channels": [CALLEE]}
    there = Inventory.of({"channel_ids": []}, [channel(CALLEE)], [ours])
    assert set(there.orphans({})) == {CALLEE, BRIDGE}


def test_the_far_end_of_whom_we_rang_goes_with_the_near_one():
    there = inventory(channels=[channel("ari-bridge-1.1-aaaaaa-f1", "Wait")])
    assert there.orphans({}) == {}
