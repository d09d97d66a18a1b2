"""DuckDB as a calculator: one connection that sees the rows it is given, and nothing else.

It has one thread, no files, no network, no extensions beyond those built in, and a configuration that is locked. Its
limit of memory does not hold for texts and lists, which is why `functions` bounds what an expression may make of a row.
"""

from __future__ import annotations

import json
import threading
from typing import TYPE_CHECKING, Any, Final

import pyarrow as pa
from headrace_data.errors import SelectInvalid

if TYPE_CHECKING:
    import duckdb

ROWS: Final = "rows"
"""The table that an expression is computed over."""
MEMORY: Final = "256MB"
_SETTINGS: Final[dict[str, Any]] = {
    "threads": 1,
    "memory_limit": MEMORY,
    "enable_external_access": "false",
    "autoinstall_known_extensions": "false",
    "autoload_known_extensions": "false",
    "python_enable_replacements": "false",
}
_SHOWN: Final = 160


class ComputingFailed(Exception):
    """DuckDB could not compute some rows; the text says why in short."""


class OutOfTime(ComputingFailed):
    """Computing some rows was stopped because it took too long."""


class Engine:
    """One connection of DuckDB. Several threads compute one after another."""

    def __init__(self) -> None:
        """Raise SelectInvalid where DuckDB is not installed."""
        try:
            import duckdb
        except ImportError as error:
            raise SelectInvalid(["needs DuckDB: install the extra headrace-data[sql]"]) from error
        self._duckdb = duckdb
        self._connection = self._connect()
        self._computing = threading.Lock()

    def _connect(self) -> duckdb.DuckDBPyConnection:
        connection = self._duckdb.connect(":memory:", config=_SETTINGS)
        # Texts with a zone are read, and times written, in the same way on every machine.
        connection.execute("SET TimeZone = 'UTC'").fetchall()
        connection.execute("SET lock_configuration = true").fetchall()
        return connection

    def parsed(self, text: str) -> Any:
        """Return the tree of a text of SQL, as DuckDB's own parser makes it: its error, or its statements."""
        return json.loads(self._one("SELECT json_serialize_sql(?)", [text]))

    def written(self, expression: Any) -> str:
        """Return the SQL of one expression of a tree."""
        node = {"type": "SELECT_NODE", "select_list": [expression], "from_table": {"type": "EMPTY"}}
        tree = {"error": False, "statements": [{"node": {**_EMPTY, **node}}]}
        text: str = self._one("SELECT json_deserialize_sql(?)", [json.dumps(tree)])
        return text.removeprefix("SELECT ")

    def planned(self, query: str) -> list[Any]:
        """Return the bound expressions of a query, before anything is optimized. Raises ComputingFailed."""
        plan = json.loads(self._one("SELECT json_serialize_plan(?, optimize := false)", [query]))
        if plan["error"]:
            raise ComputingFailed(shortened(plan["error_message"]))
        expressions: list[Any] = plan["plans"][0]["expressions"]
        return expressions

    def types(self, query: str) -> list[str]:
        """Return the types of a query's columns, as SQL writes them. Raises ComputingFailed."""
        return [str(row[1]) for row in self._all(f"DESCRIBE {query}")]

    def functions(self) -> list[tuple[str, str, str]]:
        """Return each function's name, type and stability; a name has several where its overloads differ."""
        query = "SELECT DISTINCT function_name, function_type, coalesce(stability, '') FROM duckdb_functions()"
        return [(str(name), str(kind), str(stability)) for name, kind, stability in self._all(query)]

    def declare(self, columns: list[str]) -> None:
        """Make the table of the rows, empty, with these columns of texts. Raises ComputingFailed."""
        names = ", ".join(f"{quoted(name)} VARCHAR" for name in columns) or "nothing VARCHAR"
        self._all(f"CREATE OR REPLACE TABLE {ROWS} ({names})")

    def compute(self, query: str, rows: pa.Table, limit_s: float) -> pa.Table:
        """Return what a query makes of some rows. Raises OutOfTime after so many seconds, and ComputingFailed."""
        with self._computing:
            return self._compute(query, rows, limit_s)

    def _compute(self, query: str, rows: pa.Table, limit_s: float) -> pa.Table:
        timer = threading.Timer(limit_s, self._connection.interrupt)
        timer.daemon = True
        timer.start()
        try:
            self._connection.register(ROWS, rows)
            return self._connection.sql(query).to_arrow_table()
        except self._duckdb.InterruptException as error:
            raise OutOfTime(f"it took more than {limit_s:g} s") from error
        except (self._duckdb.FatalException, self._duckdb.InternalException) as error:
            # Nothing more can be asked of a database in which this happened.
            self._connection = self._connect()
            raise ComputingFailed(shortened(str(error))) from error
        except (self._duckdb.Error, MemoryError) as error:
            raise ComputingFailed(shortened(str(error) or "too little memory")) from error
        finally:
            timer.cancel()
            timer.join()

    def _one(self, query: str, values: list[str]) -> str:
        return str(self._all(query, values)[0][0])

    def _all(self, query: str, values: list[str] | None = None) -> list[Any]:
        try:
            return list(self._connection.execute(query, values).fetchall())
        except self._duckdb.Error as error:
            raise ComputingFailed(shortened(str(error))) from error


def quoted(name: str) -> str:
    """Return a name as SQL writes one that may hold anything."""
    return '"' + name.replace('"', '""') + '"'


def shortened(message: str) -> str:
    """Return what matters of an error of DuckDB: the first line, without its kind and without advice about hints."""
    first = message.strip().splitlines()[0] if message.strip() else "no reason was given"
    text = first.partition(" Error: ")[2] or first
    return text if len(text) <= _SHOWN else f"{text[:_SHOWN]}…"


_EMPTY: Final[dict[str, Any]] = {
    "modifiers": [],
    "cte_map": {"map": []},
    "where_clause": None,
    "group_expressions": [],
    "group_sets": [],
    "aggregate_handling": "STANDARD_HANDLING",
    "having": None,
    "sample": None,
    "qualify": None,
}
