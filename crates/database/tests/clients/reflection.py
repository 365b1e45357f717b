"""What SQLAlchemy does: at its start, to look at a database (as Superset and pandas have it do), and with rows.
Arguments: port, folder of certificates."""

import sys

from sqlalchemy import (
    BigInteger, Column, Integer, MetaData, Table, Text, create_engine, func, insert, inspect, or_, select, text,
)
from sqlalchemy.exc import DBAPIError, ProgrammingError
from sqlalchemy.orm import DeclarativeBase, Session, mapped_column

port, folder = sys.argv[1:]


def engine(party, **options):
    url = f"postgresql+psycopg://{party}@localhost:{port}/test"
    tls = {
        "sslmode": "verify-full",
        "sslrootcert": f"{folder}/server.pem",
        "sslcert": f"{folder}/{party}.pem",
        "sslkey": f"{folder}/{party}.key",
    }
    return create_engine(url, connect_args=tls, pool_pre_ping=True, **options)


class Base(DeclarativeBase):
    pass


class Note(Base):
    __tablename__ = "notes"
    id = mapped_column(BigInteger, primary_key=True, autoincrement=False)
    body = mapped_column(Text, nullable=False)


writer = engine("bank_b")
with Session(writer) as session:
    session.add_all(Note(id=number, body=f"note {number}") for number in range(3000))
    session.commit()
with writer.begin() as connection:
    # One statement of many rows, its values as parameters, as pandas writes them with method="multi".
    rows = [{"id": number, "body": "many"} for number in range(3000, 13000)]
    connection.execute(insert(Note).values(rows))
try:
    with writer.connect() as connection:
        connection.execute(select(Note)).all()
except ProgrammingError as refusal:
    assert refusal.orig.sqlstate == "42501", refusal
else:
    raise AssertionError("a blind writer reads")

reader = engine("auditor")
with reader.connect() as connection:
    assert connection.dialect.server_version_info >= (15,), connection.dialect.server_version_info
    assert connection.dialect.default_schema_name == "public"
    assert connection.get_isolation_level() == "READ COMMITTED"
    assert connection.scalar(select(func.count()).select_from(Note)) == 13000
    ids = list(range(0, 20000, 2))
    assert connection.scalar(select(func.count()).where(Note.id.in_(ids))) == 6500
    one_by_one = or_(*(Note.id == number for number in range(500)))
    assert connection.scalar(select(func.count()).where(one_by_one)) == 500
for level in ["AUTOCOMMIT", "REPEATABLE READ", "SERIALIZABLE", "READ UNCOMMITTED"]:
    with reader.connect().execution_options(isolation_level=level) as connection:
        connection.execute(text("SELECT 1"))
with reader.connect().execution_options(postgresql_readonly=True) as connection:
    connection.execute(text("SELECT 1"))

tables = ["accounts", "notes", "payments"]
seen = inspect(reader)
assert "public" in seen.get_schema_names()
assert sorted(seen.get_table_names()) == tables
assert sorted(seen.get_table_names(schema="public")) == tables
assert seen.get_view_names() == [] and seen.get_materialized_view_names() == []
assert seen.get_temp_table_names() == [] and seen.get_sequence_names() != []
assert seen.has_table("notes") and not seen.has_table("nothing") and seen.has_schema("public")
for table in tables:
    assert seen.get_columns(table) and "name" in seen.get_pk_constraint(table)
    seen.get_foreign_keys(table), seen.get_indexes(table), seen.get_unique_constraints(table)
    seen.get_check_constraints(table), seen.get_table_comment(table), seen.get_table_options(table)
    seen.get_table_oid(table)
assert seen.get_pk_constraint("notes")["constrained_columns"] == ["id"]
assert [index["name"] for index in seen.get_indexes("payments")] == ["payments_account"]
seen.get_enums(), seen.get_domains()
for many in ["columns", "pk_constraint", "foreign_keys", "indexes", "unique_constraints", "check_constraints"]:
    getattr(seen, f"get_multi_{many}")(schema="public")
seen.get_multi_table_comment()
metadata = MetaData()
metadata.reflect(reader, views=True)
assert sorted(metadata.tables) == tables
assert isinstance(metadata.tables["notes"].c.id.type, BigInteger)

# Definitions: looked for, and refused where they would change something.
Base.metadata.create_all(reader)
try:
    MetaData().create_all(writer, tables=[Table("more", MetaData(), Column("id", Integer))])
except DBAPIError as refusal:
    assert refusal.orig.sqlstate == "42501", refusal
else:
    raise AssertionError("a table was made")

with engine("analyst").connect() as connection:
    for _ in range(8):
        rows = connection.execute(text("SELECT * FROM algorithm.volume(:least)"), {"least": 5}).all()
        assert [str(row.total) for row in rows] == ["12.50", "-3"], rows
print("done")
