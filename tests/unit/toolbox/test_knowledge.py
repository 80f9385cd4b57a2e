"""What is found in a folder of documents."""

import pytest

from bridge import toolbox
from bridge.agent import Agent
from bridge.errors import ConfigError, ToolError
from bridge.toolbox import ToolContext, knowledge
from bridge.tooltables import KnowledgeTool

CALL = ToolContext("c1", "c1:3:abc:1", "0123", "shop", line=None, notes={})


@pytest.fixture
def folder(tmp_path):
    home = tmp_path / "docs"
    (home / "more").mkdir(parents=True)
    (home / "delivery.md").write_text(
        "# Delivery\n\nParcels leave every weekday.\n\n## Abroad\n\nSpain costs ten dollars.\n"
    )
    (home / "more" / "events.html").write_text("<h1>Readings</h1><p>Ann reads poems in Café Nord.")
    (home / "rest.txt").write_text("We repair spines and covers.\n")
    (home / ".hidden.md").write_text("secret parcels")
    (home / "parcels.pdf").write_text("binary parcels")
    return home


@pytest.fixture
def ask(folder, monkeypatch):
    monkeypatch.setattr(knowledge, "LOOK_S", 0.0)
    table = KnowledgeTool("knowledge", "What we know.", "docs")
    agent = Agent("shop", tool={"docs": table}, file=str(folder.parent / "shop.toml"))

    async def ask(query):
        found = await toolbox.named("docs", agent)(CALL, query=query)
        return found if isinstance(found, str) else [(f["source"], f["text"]) for f in found]

    return ask


PARCELS = ("delivery.md, Delivery", "Parcels leave every weekday.")
ABROAD = ("delivery.md, Delivery › Abroad", "Spain costs ten dollars.")
READINGS = ("more/events.html, Readings", "Ann reads poems in Café Nord.")


@pytest.mark.parametrize(
    ("query", "best"),
    [
        ("when does a parcel leave", PARCELS),  # stemmed
        ("DELIVERY to spain", ABROAD),  # both words; the heading counts
        ("cafe", READINGS),  # without the accent
        ("a reading", READINGS),  # by its heading
    ],
)
async def test_the_best_comes_first(ask, query, best):
    assert (await ask(query))[0] == best


@pytest.mark.parametrize(
    "query", ["", "?!", "zebra", '"', "the-or: (x", "NEAR(", "*", "\0", "a" * 9999]
)
async def test_nothing_is_found_and_nothing_is_syntax(ask, query):
    assert await ask(query) == "The documents say nothing of that; other words may find it."


@pytest.mark.parametrize(
    "query", ['parcel"', "parcel*", "text:parcel", "parcel NOT leave", "^parcel"]
)
async def test_a_word_is_found_whatever_stands_beside_it(ask, query):
    assert (await ask(query))[0] == PARCELS


async def test_what_is_hidden_or_no_document_isnt_read(ask):
    assert await ask("secret binary") == await ask("zebra")


async def test_files_that_change_are_read_anew(ask, folder):
    assert await ask("parcels") == [PARCELS]
    (folder / "delivery.md").unlink()
    (folder / "new.md").write_text("Now parcels are brought by boat.")
    assert await ask("parcels") == [("new.md", "Now parcels are brought by boat.")]


async def test_files_that_stay_are_not_read_anew(ask, folder, caplog):
    caplog.set_level("INFO")
    for _ in range(3):
        await ask("parcels")
    assert [r.getMessage().split(": ")[1][:22] for r in caplog.records] == [
        "3 documents, 4 chunks,"
    ]


async def test_what_cant_be_read_is_left_out(ask, folder, caplog, monkeypatch):
    monkeypatch.setattr(knowledge, "MOST_BYTES", 60)
    (folder / "latin.txt").write_bytes(b"parcels f\xfcr alle")
    assert await ask("parcels") == [("latin.txt", "parcels f\ufffdr alle")]
    assert "delivery.md is left out: " in caplog.text


async def test_it_takes_a_query_and_nothing_else(folder, ask):
    with pytest.raises(ToolError, match="'query' is 5; it takes: string"):
        await ask(5)


async def test_all_is_read_before_the_first_call(folder):
    table = KnowledgeTool("knowledge", "What we know.", "docs")
    agent = Agent("shop", tool={"docs": table}, file=str(folder.parent / "shop.toml"))
    await toolbox.prepare(agent)
    assert knowledge.index_of(folder)._database is not None


def test_a_folder_that_isnt_there_is_said():
    table = KnowledgeTool("knowledge", "What we know.", "nowhere")
    with pytest.raises(ConfigError, match=r"shop.toml \[tool.docs\]: 'folder': /.*/nowhere is no"):
        toolbox.check(Agent("shop", tool={"docs": table}, file="shop.toml"))
