"""What a query gives, what it must not do, and what becomes of errors."""

import asyncio
import sqlite3

import pytest
from asynchub_sqlquery.tasks import Query

from hub.plugin import HubError
from hub.testing import TaskContract

SLOW = "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 3000000000) SELECT max(i) AS most FROM n"


class TestQuerySqlite(TaskContract):
    task = Query

    @pytest.fixture
    def fields(self, shop):
        sql = "SELECT id, total FROM orders WHERE customer = ?"
        return {"connection": "shop", "sql": sql, "parameters": ["Ada"]}

    @pytest.fixture
    def slow_fields(self, shop):
        return {"connection": "shop", "sql": SLOW}


class TestQueryPostgres(TaskContract):
    task = Query

    @pytest.fixture
    def fields(self, warehouse):
        sql = "SELECT id, total FROM orders WHERE customer = $1"
        return {"connection": "warehouse", "sql": sql, "parameters": ["Ada"]}

    @pytest.fixture
    def slow_fields(self, warehouse):
        return {"connection": "warehouse", "sql": "SELECT pg_sleep(60)"}


@pytest.fixture(params=["shop", "warehouse"])
def database(request):
    """Each of the two, and how it writes its first parameter."""
    request.getfixturevalue(request.param)
    return request.param, "?" if request.param == "shop" else "$1"


@pytest.fixture
def ask(run_task, database):
    async def ask(sql, *parameters, **more):
        name, mark = database
        return await run_task(
            "sql.query", connection=name, sql=sql.replace("?", mark), parameters=list(parameters), **more
        )

    return ask


async def test_rows_come_by_column(ask):
    result = await ask("SELECT id, customer FROM orders WHERE customer = ? ORDER BY id", "Ada")
    assert result.outputs == {
        "rows": [{"id": 1, "customer": "Ada"}, {"id": 3, "customer": "Ada"}],
        "count": 2,
    }


@pytest.mark.parametrize(
    "text", ["Bob's", "x' OR '1'='1", "'; DROP TABLE orders; --", "Ünï \N{PARTY POPPER}"]
)
async def test_a_parameter_is_a_value_whatever_it_holds(ask, text):
    result = await ask("SELECT count(*) AS n FROM orders WHERE customer = ?", text)
    assert result.outputs["rows"] == [{"n": 1 if text == "Bob's" else 0}]
    assert (await ask("SELECT count(*) AS n FROM orders")).outputs["rows"] == [{"n": 3}]


async def test_an_expression_in_the_text_is_refused_at_save(ask):
    with pytest.raises(HubError, match="never rendered") as refused:
        await ask("SELECT * FROM orders WHERE customer = '{{ inputs.name }}'")
    assert "parameters" in str(refused.value)


@pytest.mark.parametrize("sql", ["DELETE FROM orders", "CREATE TABLE more (id INTEGER)"])
async def test_a_query_changes_nothing_unless_it_is_meant_to(ask, sql):
    result = await ask(sql)
    assert result.state == "FAILED"
    assert "refuses the query" in result.error
    assert (await ask("SELECT count(*) AS n FROM orders")).outputs["rows"] == [{"n": 3}]


async def test_a_change_says_how_many_rows_it_was(ask):
    assert (await ask("DELETE FROM orders WHERE customer = ?", "Ada", write=True)).outputs["count"] == 2
    assert (await ask("SELECT count(*) AS n FROM orders")).outputs["rows"] == [{"n": 1}]


async def test_a_change_that_fails_leaves_nothing(ask):
    result = await ask("INSERT INTO orders VALUES (9, 'Eve', 1), (1, 'Ada', 1)", write=True)
    assert (result.state, result.attempts) == ("FAILED", 1)
    assert (await ask("SELECT count(*) AS n FROM orders")).outputs["rows"] == [{"n": 3}]


async def test_two_statements_are_refused(ask):
    result = await ask("SELECT 1 AS a; DELETE FROM orders", write=True)
    assert result.state == "FAILED"
    assert (await ask("SELECT count(*) AS n FROM orders")).outputs["rows"] == [{"n": 3}]


async def test_more_rows_than_asked_for_are_a_failure(ask):
    result = await ask("SELECT id FROM orders", max_rows=2)
    assert (result.state, result.error) == (
        "FAILED",
        "there are more than 2 rows: write a LIMIT, or raise maxRows",
    )


async def test_a_column_twice_is_a_failure(ask):
    result = await ask("SELECT id, id FROM orders")
    assert "two columns are called" in result.error


@pytest.mark.parametrize("sql", ["SELEC 1", "SELECT * FROM no_such_table", "SELECT ? + 1 AS a, ? AS b"])
async def test_what_would_fail_again_is_not_tried_again(ask, sql, virtual_clock):
    result = await ask(sql, retry={"interval": "PT1S", "maxAttempts": 3})
    assert (result.state, result.attempts) == ("FAILED", 1)


async def test_a_name_that_is_not_there_has_a_near_one(run_task, shop):
    result = await run_task("sql.query", connection="shpo", sql="SELECT 1 AS one")
    assert 'did you mean "shop"?' in result.error


async def test_a_locked_file_is_tried_again(run_task, shop, monkeypatch):
    from asynchub_sqlquery import sqlite

    monkeypatch.setattr(sqlite, "_BUSY", 0.1)
    other = sqlite3.connect(shop, isolation_level=None)
    other.execute("BEGIN EXCLUSIVE")
    waiting = asyncio.create_task(
        run_task(
            "sql.query", connection="shop", sql="DELETE FROM orders", write=True,
            retry={"interval": "PT0.3S", "maxAttempts": 20},
        )
    )  # fmt: skip
    await asyncio.sleep(0.5)
    other.execute("COMMIT")
    other.close()
    result = await waiting
    assert result.state == "SUCCESS"
    assert result.attempts > 1


async def test_values_of_postgres_are_plain_data(run_task, warehouse):
    sql = (
        "SELECT 1.50::numeric AS exact, '2026-01-02T03:04:05Z'::timestamptz AS at, '2026-01-02'::date AS day,"
        " '{1,2}'::int[] AS many, '\\x00ff'::bytea AS raw, true AS yes, NULL AS nothing,"
        " '00000000-0000-0000-0000-000000000001'::uuid AS id"
    )
    result = await run_task("sql.query", connection="warehouse", sql=sql)
    assert result.outputs["rows"] == [
        {
            "exact": "1.50",
            "at": "2026-01-02T03:04:05+00:00",
            "day": "2026-01-02",
            "many": [1, 2],
            "raw": "AP8=",
            "yes": True,
            "nothing": None,
            "id": "00000000-0000-0000-0000-000000000001",
        }
    ]


async def test_a_killed_query_is_ended_in_the_server(run_task, warehouse):
    result = await run_task("sql.query", connection="warehouse", sql="SELECT pg_sleep(60)", timeout="PT1S")
    assert result.error == "timed out after PT1S"
    running = "SELECT count(*) FROM pg_stat_activity WHERE query LIKE 'SELECT pg_sleep%' AND state = 'active'"
    assert await warehouse.fetchval(running) == 0


async def test_a_wrong_password_is_said_without_the_password(run_task, warehouse, secrets):
    secrets["WAREHOUSE_PASSWORD"] = "not this one"
    result = await run_task("sql.query", connection="warehouse", sql="SELECT 1 AS one")
    assert result.state == "FAILED"
    assert "password authentication failed" in result.error
    assert "not this one" not in result.error


@pytest.mark.parametrize(
    ("url", "message"),
    [
        ("mysql://x", "expected sqlite"),
        ("postgresql://hub:secret@h/db", "a password is kept as a secret"),
        ("sqlite:///shop.db", "four slashes"),
    ],
)
async def test_settings_that_cannot_be_are_refused(run_task, plugin_settings, url, message):
    plugin_settings["sql"] = {"connections": {"one": {"url": url}}}
    with pytest.raises(HubError, match=message):
        await run_task("sql.query", connection="one", sql="SELECT 1 AS one")
