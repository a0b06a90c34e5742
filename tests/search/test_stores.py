"""Every store gives the same answers: those of a plain loop over the rows."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tectum.errors import StoreError
from tectum.search import lance
from tectum.search.lance import LanceStore
from tectum.search.recall import held_out_queries
from tectum.search.store import And, Below, Equal, Filter, In, Not, Or, Row, Store
from tectum.search.stores import open_store

DIM = 24
FIELDS = {"kind": str, "end": int, "weight": float}
WORDS = ["image", "it's", "a\\b", 'quo"te', "日本 🐕", "two\nlines", "", "zero\0byte", "%_", "`tick`", "null"]


def make_rows(count: int, seed: int = 0, prefix: str = "") -> list[Row]:
    random = np.random.default_rng(seed)
    vectors = random.standard_normal((count, DIM))
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    return [
        Row(f"{prefix}{i:05d}", v, {"kind": WORDS[i % len(WORDS)], "end": i - 50, "weight": i / 7}) for i, v in enumerate(vectors)
    ]


@pytest.fixture(params=["memory", "lance"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Store:
    made = open_store("memory:" if request.param == "memory" else str(tmp_path / "store"))
    made.create(DIM, FIELDS)
    return made


def passes(row: Row, where: Filter | None) -> bool:
    """The meaning of filters, told independently."""
    match where:
        case None:
            return True
        case And(parts):
            return all(passes(row, part) for part in parts)
        case Or(parts):
            return any(passes(row, part) for part in parts)
        case Not(part):
            return not passes(row, part)
        case Equal(name, value):
            return (row.id if name == "id" else row.fields[name]) == value
        case In(name, values):
            return (row.id if name == "id" else row.fields[name]) in values
        case Below(name, value):
            return (row.id if name == "id" else row.fields[name]) < value  # type: ignore[operator]


def by_loop(rows: list[Row], query: np.ndarray, k: int, where: Filter | None) -> list[tuple[str, float]]:
    scored = [(row.id, float(np.float64(row.vector) @ query)) for row in rows if passes(row, where)]
    return sorted(scored, key=lambda pair: -pair[1])[:k]


leaves = st.one_of(
    st.builds(Equal, st.just("kind"), st.sampled_from(WORDS)),
    st.builds(Equal, st.just("id"), st.integers(0, 320).map(lambda i: f"{i:05d}")),
    st.builds(In, st.just("end"), st.frozensets(st.integers(-60, 300), max_size=4)),
    st.builds(In, st.just("kind"), st.frozensets(st.sampled_from(WORDS), max_size=3)),
    st.builds(Below, st.just("end"), st.integers(-60, 300)),
    st.builds(Below, st.just("weight"), st.floats(-1, 50, allow_nan=False)),
    st.builds(Below, st.just("kind"), st.sampled_from(WORDS)),
)
filters = st.recursive(
    leaves,
    lambda part: st.one_of(
        st.builds(And, st.lists(part, max_size=3).map(tuple)),
        st.builds(Or, st.lists(part, max_size=3).map(tuple)),
        st.builds(Not, part),
    ),
    max_leaves=5,
)


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(where=st.none() | filters, seed=st.integers(0, 2**32), k=st.integers(1, 12))
def test_search_get_and_count_equal_a_loop(store: Store, where: Filter | None, seed: int, k: int) -> None:
    rows = make_rows(300)
    if store.count() == 0:
        store.upsert(rows)
    query = np.random.default_rng(seed).standard_normal(DIM)
    expected = by_loop(rows, query, k, where)
    found = store.search(query, k, where)
    assert [hit.id for hit in found] == [id for id, _ in expected]
    np.testing.assert_allclose([hit.score for hit in found], [score for _, score in expected], atol=2e-6)
    wanted = sorted(row.id for row in rows if passes(row, where))
    assert [row.id for row in store.get(where)] == wanted
    assert store.count(where) == len(wanted)


def test_fields_and_vectors_come_back_as_they_went(store: Store) -> None:
    rows = make_rows(40)
    store.upsert(rows)
    for given_row, back in zip(rows, store.get(), strict=True):
        assert dict(back.fields) == given_row.fields
        assert [type(value) for value in back.fields.values()] == [str, int, float]
        np.testing.assert_array_equal(back.vector, given_row.vector.astype(np.float32))
    assert all(row.vector.shape == (0,) and row.fields == rows[i].fields for i, row in enumerate(store.get(vectors=False)))
    assert dict(store.search(rows[3].vector, 1)[0].fields) == rows[3].fields


def test_upsert_replaces_and_delete_deletes(store: Store) -> None:
    rows = make_rows(30)
    store.upsert(rows)
    moved = Row(rows[4].id, rows[5].vector, {"kind": "new", "end": 0, "weight": 0.0})
    store.upsert([rows[4], moved])
    assert store.count() == 30
    (back,) = store.get(Equal("id", rows[4].id))
    assert back.fields["kind"] == "new"
    assert [hit.id for hit in store.search(rows[5].vector, 2)] == [rows[4].id, rows[5].id]
    assert store.delete(Below("end", -30)) == 19
    assert store.delete(Below("end", -30)) == 0
    assert store.count() == 11
    assert {hit.id for hit in store.search(rows[0].vector, 100)} == {rows[4].id, *(row.id for row in rows[20:])}


def test_ties_are_broken_by_id(store: Store) -> None:
    vector = np.eye(DIM)[0]
    fields = {"kind": "", "end": 0, "weight": 0.0}
    store.upsert([Row(name, vector, fields) for name in "gbdfaec"])
    assert [hit.id for hit in store.search(vector, 4)] == list("abcd")


def test_empty_store_and_k_beyond_its_size(store: Store) -> None:
    assert store.search(np.ones(DIM)) == [] and store.get() == [] and store.count() == 0
    assert store.optimize().rows == 0
    store.upsert([])
    store.upsert(make_rows(3))
    assert len(store.search(np.ones(DIM), 10)) == 3
    assert store.search(np.ones(DIM), 0) == []


@pytest.mark.parametrize(
    ("row", "says"),
    [
        (Row("a", np.ones(DIM), {"kind": "", "end": 0, "weight": 0.0}), "length 1"),
        (Row("a", np.full(DIM, np.nan), {"kind": "", "end": 0, "weight": 0.0}), "length 1"),
        (Row("a", np.eye(DIM + 1)[0], {"kind": "", "end": 0, "weight": 0.0}), "vectors of 24"),
        (Row("a", np.eye(DIM)[0], {"kind": "", "end": 0}), "fields"),
        (Row("a", np.eye(DIM)[0], {"kind": 3, "end": 0, "weight": 0.0}), "'kind' is str"),
        (Row("a", np.eye(DIM)[0], {"kind": "", "end": 2**63, "weight": 0.0}), "64 bits"),
        (Row("a", np.eye(DIM)[0], {"kind": "", "end": 0, "weight": float("inf")}), "finite"),
        (Row("a\udcff", np.eye(DIM)[0], {"kind": "", "end": 0, "weight": 0.0}), "Unicode"),
    ],
)
def test_rows_that_cannot_be_stored_change_nothing(store: Store, row: Row, says: str) -> None:
    good = make_rows(2)
    with pytest.raises(StoreError, match=says):
        store.upsert([*good, row])
    assert store.count() == 0


@pytest.mark.parametrize(
    "where", [Equal("colour", "red"), Equal("end", "3"), In("kind", frozenset({1})), Not(Below("weight", 1))]
)
def test_filters_that_do_not_fit_are_refused(store: Store, where: Filter) -> None:
    with pytest.raises(StoreError, match=r"no field|convert"):
        store.search(np.ones(DIM), 3, where)


def test_a_query_of_the_wrong_shape_is_refused(store: Store) -> None:
    with pytest.raises(StoreError, match="24 numbers"):
        store.search(np.ones(DIM - 1))


def test_create_is_repeatable_and_refuses_another_shape(store: Store) -> None:
    store.create(DIM, FIELDS)
    with pytest.raises(StoreError, match="vectors of 24"):
        store.create(DIM + 1, FIELDS)
    with pytest.raises(StoreError, match="vectors of 24"):
        store.create(DIM, {"kind": str})


@pytest.mark.parametrize("fields", [{"id": str}, {"Kind": str}, {"a-b": str}, {"when": bytes}])
def test_field_names_that_some_store_cannot_hold_are_refused(fields: dict[str, type]) -> None:
    with pytest.raises(StoreError):
        open_store("memory:").create(DIM, fields)


def test_unknown_uris_and_missing_stores_are_named(tmp_path: Path) -> None:
    with pytest.raises(StoreError, match="names no store"):
        open_store("redis://somewhere")
    with pytest.raises(StoreError, match="no store at"):
        open_store(str(tmp_path / "nothing")).count()
    assert not (tmp_path / "nothing").exists()


def test_a_large_lance_store_is_searched_by_index_with_measured_recall(tmp_path: Path) -> None:
    rows = make_rows(2600)
    store = LanceStore(tmp_path / "store", exact_below=2000)
    store.create(DIM, FIELDS)
    store.upsert(rows[:1500])
    assert (store.optimize().method, store.optimize().recall) == ("exact", 1.0)
    store.upsert(rows[1500:2500])
    build = store.optimize()
    assert build.method == "IVF_HNSW_SQ" and build.rebuilt and build.rows == 2500 and build.milliseconds > 0
    # The recall told is the recall an independent count over other queries finds, within sampling error.
    queries = np.random.default_rng(5).standard_normal((60, DIM)).astype(np.float32)
    found = [
        {hit.id for hit in store.search(query, 10)} & {id for id, _ in by_loop(rows[:2500], query, 10, None)} for query in queries
    ]
    assert abs(sum(map(len, found)) / 600 - build.recall) < 0.05
    # Rows added after the build are found at once, deleted ones are gone, filters are pushed down.
    store.upsert(rows[2500:])
    assert store.search(rows[2550].vector, 1)[0].id == rows[2550].id
    store.delete(Equal("id", rows[2550].id))
    assert store.search(rows[2550].vector, 1)[0].id != rows[2550].id
    narrow = And((Equal("kind", "日本 🐕"), Below("end", 0)))
    assert [hit.id for hit in store.search(queries[0], 3, narrow)] == [id for id, _ in by_loop(rows, queries[0], 3, narrow)]
    again = store.optimize()
    assert not again.rebuilt and again.recall == build.recall
    # Another reader finds the settings in the table itself.
    other = LanceStore(tmp_path / "store", exact_below=2000)
    assert [hit.id for hit in other.search(queries[1], 5)] == [hit.id for hit in store.search(queries[1], 5)]


def test_an_index_that_finds_too_little_is_not_used(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    rows = make_rows(600)
    store = LanceStore(tmp_path / "store", exact_below=500)
    store.create(DIM, FIELDS)
    store.upsert(rows)
    monkeypatch.setattr(lance, "RECALL_WANTED", 1.01)
    build = store.optimize(np.array([row.vector for row in rows[:16]]))
    assert (build.method, build.recall) == ("exact", 1.0)
    query = np.random.default_rng(0).standard_normal(DIM)
    assert [hit.id for hit in store.search(query, 10)] == [id for id, _ in by_loop(rows, query, 10, None)]
    assert not store.optimize().rebuilt


def test_held_out_queries_are_near_rows_but_none_of_them(tmp_path: Path) -> None:
    store = LanceStore(tmp_path / "store")
    store.create(DIM, FIELDS)
    rows = make_rows(300)
    store.upsert(rows)
    queries = held_out_queries(store._latest(), DIM)
    best = (queries @ np.array([row.vector for row in rows]).T).max(axis=1)
    assert queries.shape == (256, DIM) and (best < 0.99).all() and (best > 0.7).all()


def test_many_small_writes_leave_few_files(tmp_path: Path) -> None:
    store = LanceStore(tmp_path / "store")
    store.create(DIM, FIELDS)
    for seed in range(20):
        store.upsert(make_rows(5, seed, f"{seed}-"))
    before = len(list((tmp_path / "store").rglob("*.lance")))
    store.optimize()
    assert store._latest().stats()["fragment_stats"]["num_fragments"] == 1 < before
    assert store.count() == 100
