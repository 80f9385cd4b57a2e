"""What an agent's file says of tools, and what is wrong with it."""

import re
from pathlib import Path

import pytest

from bridge import toolbox
from bridge.agent import load
from bridge.engines.functions import declared
from bridge.errors import ConfigError

ORDERS = """
[tool.orders]
type = "http"
description = "Where an order is."
url = "https://shop.example.com/orders/{order}"
"""
BARE = ORDERS.replace("{order}", "")
SERVER = """
[tool.crm]
type = "mcp"
command = ["sh"]
tools = ["find", "a/b"]
"""
ORDER = '[tool.orders.parameters.order]\ntype = "string"\n'


@pytest.fixture
def agent(tmp_path):
    def write(text):
        (tmp_path / "shop.toml").write_text(text, encoding="utf-8")
        found = load(tmp_path, "shop")
        toolbox.check(found)
        return found

    return write


def test_a_model_is_told_of_a_tool_that_the_file_declares(agent):
    one = declared(agent(ORDERS + ORDER + 'description = "six digits"'))[-1]
    assert (one.name, one.description) == ("orders", "Where an order is.")
    assert one.parameters == {
        "type": "object",
        "properties": {"order": {"type": "string", "description": "six digits"}},
        "required": ["order"],
        "additionalProperties": False,
    }


def test_what_the_sample_agent_shows_can_be_used(agent, tmp_path, monkeypatch):
    monkeypatch.setenv("SHOP_KEY", "x")
    (tmp_path / "shop-documents").mkdir()
    sample = (Path(__file__).parents[2] / "agents" / "demo.toml").read_text(encoding="utf-8")
    shown = sample.partition('"Tools".')[2].partition("\n\n")[0].partition("#\n")[2]
    found = agent(re.sub(r"(?m)^# ?", "", shown))
    assert list(found.tool) == ["order_status", "shop_facts"]


def test_what_a_server_brings_goes_by_its_own_name_where_that_is_free(agent):
    alone = agent(SERVER + 'filler = "One moment."')
    assert alone.served == {"find": ("crm", "find"), "a_b": ("crm", "a/b")}
    assert alone.fillers["a_b"] == "One moment."
    two = agent(SERVER + SERVER.replace("crm", "erp").replace("a/b", "2nd"))
    assert two.every_tool == ("crm_find", "a_b", "erp_find", "_2nd")
    clash = agent(SERVER.replace("a/b", "remember") + BARE.replace("orders", "find"))
    assert clash.every_tool == ("find", "crm_find", "crm_remember")
    assert declared(clash)[-1].name == "find"  # the server hasn't told of the others yet


def test_a_tool_that_is_named_as_well_is_told_of_once(agent):
    found = agent('tools = ["orders"]' + ORDERS + ORDER)
    assert [f.name for f in declared(found)] == ["hang_up", "orders"]


@pytest.mark.parametrize(
    ("text", "error"),
    [
        (ORDERS, "'url' has {order}; there are: none"),
        (ORDERS + 'retires = 2\n' + ORDER, "unknown key 'retires'; did you mean 'retries'?"),
        (ORDERS + 'method = "FETCH"\n' + ORDER, "it takes 'GET', 'POST'"),
        (ORDERS + "retries = 9\n" + ORDER, "'retries' is 9; it takes 0 to 5"),
        (ORDERS + "timeout_s = 0\n" + ORDER, "'timeout_s' is 0; it takes 0.1 to 120"),
        (ORDERS + "required = []\n" + ORDER, "'url' has {order}, so that must be in 'required'"),
        (ORDERS + 'required = ["ordre"]\n' + ORDER, "'ordre'; did you mean 'order'?"),
        (ORDERS + ORDER + 'descripton = "x"', "unknown key 'descripton'; did you mean 'descr"),
        (ORDERS + ORDER.replace("string", "text"), "'type' takes 'string', 'integer'"),
        (ORDERS.replace("https", "ftp") + ORDER, "it takes http://... or https://..."),
        (BARE.replace(".com", ".com:80orders"), "it takes http://... or https://..."),
        (BARE.replace("//shop", "//[shop"), "it takes http://... or https://..."),
        (ORDERS.replace("shop.", "{order}.") + ORDER, "an argument in its host"),
        (ORDERS.replace("shop.", "me:pw@shop.") + ORDER, "'url' holds a password"),
        (ORDERS.replace('"http"', '"htpp"') + ORDER, "is 'htpp'; it takes 'http'"),
        (BARE.replace("tool.orders", "tool.hang_up"), "'hang_up' is built in"),
        (BARE.replace("tool.orders", 'tool."a b"'), "tool 'a b': a name takes letters"),
        (BARE + 'headers = { A = "${NO_SUCH_KEY}" }', "variable NO_SUCH_KEY is not set, or"),
        (BARE + 'headers = { A = "${file:/no/key}" }', "/no/key can't be read: No such"),
        (SERVER.replace('["find", "a/b"]', "[]"), "'tools' is empty; name the server's tools"),
        (SERVER.replace("command", "comand"), "'comand'; did you mean 'command'?"),
        (SERVER + 'url = "https://crm.example.com/mcp"', "it takes either 'command'"),
        (SERVER.replace('command = ["sh"]', ""), "it takes either 'command'"),
        (SERVER.replace('command = ["sh"]', 'url = "crm"'), "it takes http://... or https://..."),
        (SERVER + 'headers = { A = "b" }', "'headers' are for 'url'; with 'command' it"),
        (SERVER + 'env = { A = "${NO_SUCH_KEY}" }', "variable NO_SUCH_KEY is not set, or"),
        (SERVER.replace('"sh"', '"no-such"'), "there is no program 'no-such'; install it, or give"),
        (SERVER.replace('"a/b"', '"hang_up", "crm_hang_up"'), "be 'crm_hang_up', as another is"),
    ],
)  # fmt: skip
def test_what_is_wrong_is_said_with_the_cure(agent, text, error):
    with pytest.raises(ConfigError) as caught:
        agent(text)
    assert error in str(caught.value)
    assert "shop.toml" in str(caught.value)
    assert "\n" not in str(caught.value)
    assert "pw" not in str(caught.value)
