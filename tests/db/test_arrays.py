"""Array literals: whatever goes into one comes out of Postgres the same."""

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from db.connection import Database, bytes_array, number_array, text_array, uuid_array

TEXTS = st.lists(
    st.none()
    | st.text(st.characters(codec="utf-8", exclude_characters="\0"), max_size=20)
    | st.sampled_from(('"', "\\", ",", "{", "NULL", ""))
)


@pytest.fixture
def store(database):
    store = Database(database)
    yield store
    store.close()


@pytest.mark.integration
@settings(max_examples=200, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(texts=TEXTS)
def test_texts_come_back_as_they_went_in(store, texts):
    assert store.read("SELECT %(texts)s::text[]", {"texts": text_array(texts)}) == [(texts,)]


@pytest.mark.integration
def test_ids_numbers_and_bytes_come_back_as_they_went_in(store):
    values = {
        "ids": uuid_array(["018f0000-0000-7000-8000-000000000000", None]),
        "numbers": number_array([1.5, None, -2]),
        "bytes": bytes_array([b"\0\\'", b"", None]),
    }
    ids, numbers, raw = store.read("SELECT %(ids)s::uuid[]::text[], %(numbers)s::float8[], %(bytes)s::bytea[]", values)[0]
    assert (ids, numbers) == (["018f0000-0000-7000-8000-000000000000", None], [1.5, None, -2.0])
    assert [value and bytes(value) for value in raw] == [b"\0\\'", b"", None]


@pytest.mark.parametrize("texts", [["a\0"], ["\0"], ["a", None, 'b"\0']])
def test_nul_is_refused_before_postgres_sees_it(texts):
    with pytest.raises(ValueError, match="NUL"):
        text_array(texts)


def test_a_separator_inside_a_text_does_not_make_two_of_it():
    assert text_array(['a","b']) == '{"a\\",\\"b"}'
    assert text_array(["a,b", "{c}"]) == '{"a,b","{c}"}'
