"""What Asterisk writes down of a call (CDR, CEL): the caller's call, and nothing of ours."""

import asyncio
import csv
from collections.abc import Iterator

import pytest

from bridge.pbx.base import Callee
from tests.lab.asterisk import Asterisk
from tests.lab.baresip import Baresip
from tests.pbx.conftest import set_up

CDR = "[general]\nenable=yes\n[csv]\nusegmtime=yes\nloguniqueid=yes\n"
CEL = "[general]\nenable=yes\napps=all\nevents=ALL\n"
CUSTOM = """[mappings]
Master.csv => ${eventtype},${CHANNEL(channame)},${CHANNEL(uniqueid)},${CHANNEL(linkedid)}
"""
FIELDS = (
    *("account", "src", "dst", "context", "clid", "channel", "dstchannel", "app", "data"),
    *("start", "answer", "end", "duration", "billsec", "disposition", "amaflags", "uniqueid"),
)


@pytest.fixture(scope="module")
def asterisk() -> Iterator[Asterisk]:
    with Asterisk() as asterisk:
        for backend in ("cdr-csv", "cel-custom"):
            (asterisk.directory / "log" / backend).mkdir()
        for name, text in (("cdr", CDR), ("cel", CEL), ("cel_custom", CUSTOM)):
            (asterisk.etc / f"{name}.conf").write_text(text)
        asterisk.cli("module reload cdr")
        asterisk.cli("module reload cel")
        for module in ("cdr_csv.so", "cel_custom.so"):
            if module == "cel_custom.so":  # where it is of a version that has it
                asterisk.cli("module load res_cdrel_custom.so")
            asterisk.cli(f"module load {module}")
        yield asterisk


async def records(asterisk: Asterisk, count: int) -> list[dict[str, str]]:
    """So many call detail records, and no more; the file is emptied."""
    path = asterisk.directory / "log" / "cdr-csv" / "Master.csv"
    async with asyncio.timeout(20):
        while not path.exists() or len(path.read_text().splitlines()) < count:
            await asyncio.sleep(0.05)
    asterisk.cli("core show channels")  # whatever else it had to write is on its way
    await asyncio.sleep(0.2)
    rows = list(csv.reader(path.read_text().splitlines()))
    path.unlink()
    return [dict(zip(FIELDS, row, strict=False)) for row in rows]


def phone(asterisk: Asterisk) -> Baresip:
    return Baresip("phone", asterisk.phone_password, asterisk.sip_port)


async def test_a_call_is_one_record(asterisk, controller, callers, ear):
    async with phone(asterisk) as caller:
        dialling = asyncio.create_task(caller.dial("700"))
        leg = await controller.call()
        await set_up(leg, ear)
        await dialling
        await asyncio.sleep(1.1)
        await caller.hangup()
        await leg.release()
    [one] = await records(asterisk, 1)
    assert one["channel"].startswith("PJSIP/phone-")
    assert (one["dst"], one["app"]) == ("700", "Stasis")
    assert one["data"].startswith("ari-bridge,demo,")
    assert one["disposition"] == "ANSWERED"
    assert 1 <= int(one["billsec"]) <= int(one["duration"])
    # CEL can't leave a channel out: ours are known by their names, and belong to the call.
    path = asterisk.directory / "log" / "cel-custom" / "Master.csv"
    events = list(csv.reader(path.read_text().splitlines()))
    ours = [event for event in events if event[2].startswith("ari-bridge-")]
    assert {event[1].partition("/")[0] for event in ours} == {"UnicastRTP"}
    theirs = [event for event in events if event not in ours]
    assert [event[0] for event in theirs][:3] == ["CHAN_START", "ANSWER", "BRIDGE_ENTER"]
    assert {event[3] for event in theirs} == {leg.incoming.call_id}
    assert ours[-1][3] == leg.incoming.call_id


async def test_a_transfer_is_the_agents_part_the_humans_part_and_the_humans_leg(
    asterisk, controller, callers, ear
):
    async def noted() -> None:
        """Nothing has to be remembered here."""

    async with phone(asterisk) as caller:
        dialling = asyncio.create_task(caller.dial("700"))
        leg = await controller.call()
        await set_up(leg, ear)
        await dialling
        await leg.ring(Callee("200", "from-ari-bridge"), noted)
        await leg.connect()
        await leg.release()
        await asyncio.sleep(1.1)
        await caller.hangup()
    found = await records(asterisk, 3)
    [agent] = [r for r in found if r["app"] == "Stasis"]
    [human] = [r for r in found if r["app"] == "Bridge"]
    [leg_of_his] = [r for r in found if r["channel"].endswith(";2")]
    assert agent["uniqueid"] == human["uniqueid"] == leg.incoming.call_id
    assert human["dstchannel"].startswith("Local/200@from-ari-bridge-")
    assert int(human["billsec"]) >= 1
    assert leg_of_his["dst"] == "200"
