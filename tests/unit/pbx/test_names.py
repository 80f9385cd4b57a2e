import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bridge.audio.codecs import CODECS
from bridge.pbx.names import FORMATS, Name, codec_of, new_token, parse_name

# Asterisk's ids: seconds and a counter, with the system's name before where it has one.
CALL_IDS = st.one_of(
    st.from_regex(r"\A[0-9]{10}\.[0-9]{1,5}\Z"),
    st.from_regex(r"\A[a-z0-9-]{1,20}-[0-9]{10}\.[0-9]{1,5}\Z"),
    st.sampled_from(["ari-bridge-1-abcdef", "a-b-c", "x-123456-1", "x-1"]),
)
TOKENS = st.from_regex(r"\A[0-9a-f]{6}\Z")


@settings(deadline=None)
@given(CALL_IDS, TOKENS, st.none() | st.integers(1, 99))
def test_a_name_says_whose_it_is(call_id, token, n):
    name = Name(call_id, token, n)
    assert parse_name(str(name)) == name


@pytest.mark.parametrize(
    "text",
    [
        "",
        "1763829542.3",
        "ari-bridge-",
        "ari-bridge-1763829542.3",  # no token
        "ari-bridge-1763829542.3-xyzxyz",
        "other-1763829542.3-abcdef",
        "ari-bridge-1763829542.3-abcdef-",
        "UnicastRTP/127.0.0.1:4000-0x7f",
    ],
)
def test_a_strangers_name_is_none_of_ours(text):
    assert parse_name(text) is None


def test_tokens_differ_and_are_tokens():
    tokens = {new_token() for _ in range(50)}
    assert len(tokens) > 45
    assert all(parse_name(str(Name("1.1", token))) for token in tokens)


@pytest.mark.parametrize(
    ("formats", "codec"),
    [
        ("(ulaw)", "PCMU"),
        ("(alaw)", "PCMA"),
        ("(alaw|ulaw)", "PCMA"),
        ("(ulaw|alaw)", "PCMU"),
        ("(g722|alaw)", "G722"),
        ("(g722)", "G722"),
        ("(opus)", "OPUS"),
        ("(gsm|opus)", "OPUS"),
        ("(slin)", "L16"),
        ("(slin48)", "L16/16000"),
        ("(slin192)", "PCMU"),
        ("alaw", "PCMA"),
        ("(nothing)", "PCMU"),
        ("", "PCMU"),
    ],
)
def test_the_callers_codec_where_it_goes_both_ways(formats, codec):
    assert codec_of(formats, CODECS) == codec


@pytest.mark.parametrize(
    ("formats", "missing", "codec"),
    [
        ("(opus)", {"OPUS"}, "L16/16000"),  # still wide
        ("(opus)", {"OPUS", "L16/16000", "G722"}, "PCMU"),
        ("(g722|alaw)", {"G722"}, "PCMA"),
        ("(g722)", {"G722"}, "PCMU"),
    ],
)
def test_without_a_library_the_next_best(formats, missing, codec):
    assert codec_of(formats, set(CODECS) - missing) == codec


def test_every_codec_has_a_format():
    assert set(FORMATS) == set(CODECS)


@pytest.mark.parametrize("kind", ["", "t", "f"])
def test_channels_of_each_kind_are_told_apart(kind):
    name = Name("1.1-2", "abcdef", 3, kind)
    assert parse_name(str(name)) == name
