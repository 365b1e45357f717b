"""What a party does with psycopg. Arguments: port, folder of certificates; `direct` for TLS without a request."""

import sys
import threading

import psycopg

port, folder, *direct = sys.argv[1:]
if direct:
    # Of libpq 17 and later.
    options = {"sslnegotiation": "direct", "max_protocol_version": "latest"}
else:
    options = {}


def connect(party):
    return psycopg.connect(
        host="localhost",
        port=port,
        dbname="test",
        user=party,
        sslmode="verify-full",
        sslrootcert=f"{folder}/server.pem",
        sslcert=f"{folder}/{party}.pem",
        sslkey=f"{folder}/{party}.key",
        **options,
    )


with connect("bank_b") as writer:
    with writer.cursor() as cursor:
        cursor.execute("INSERT INTO notes (id, body) VALUES (%s, %s)", (1, "from Python"))
        cursor.executemany("INSERT INTO notes VALUES (%s, %s)", [(number, "x") for number in range(2, 50)])
        with cursor.copy("COPY notes (id, body) FROM STDIN") as copy:
            for number in range(50, 1000):
                copy.write_row((number, "copied"))
    writer.commit()
    try:
        writer.execute("SELECT * FROM notes")
    except psycopg.errors.InsufficientPrivilege as refusal:
        assert refusal.sqlstate == "42501", refusal
    else:
        raise AssertionError("a blind writer reads")
    writer.rollback()
    writer.execute("INSERT INTO notes VALUES (1000, 'after')")

with connect("auditor") as reader:
    for _ in range(10):  # psycopg prepares what is repeated
        count = reader.execute("SELECT count(*) FROM notes WHERE id > %s", (0,)).fetchone()[0]
        assert count == 1000, count
    with reader.cursor(binary=True) as cursor:
        assert cursor.execute("SELECT id FROM notes WHERE body = %s", ("from Python",)).fetchall() == [(1,)]
    with reader.cursor() as cursor, cursor.copy("COPY notes TO STDOUT") as copy:
        assert len(list(copy.rows())) == 1000
    with reader.transaction():
        reader.execute("SELECT 1")

with connect("analyst") as analyst:
    for _ in range(8):
        rows = analyst.execute("SELECT * FROM algorithm.volume(%s)", (5,)).fetchall()
        assert [str(row[1]) for row in rows] == ["12.50", "-3"], rows
    with analyst.cursor(binary=True) as cursor:
        assert cursor.execute("SELECT * FROM algorithm.total()").fetchall() == [(42,)]
    with analyst.pipeline():
        cursors = [analyst.execute("SELECT * FROM algorithm.total()"), analyst.execute("SELECT 7")]
        assert [it.fetchone()[0] for it in cursors] == [42, 7]
if direct:
    assert psycopg.pq.version() >= 170000, psycopg.pq.version()
    with connect("auditor") as reader:
        # As the session itself, so a request to end what runs comes within TLS.
        timer = threading.Timer(0.5, reader.cancel_safe)
        timer.start()
        try:
            reader.execute("SELECT count(*) FROM generate_series(1, 100000) a, generate_series(1, 100000000) b")
        except psycopg.errors.QueryCanceled:
            pass
        else:
            raise AssertionError("it was not cancelled")
        timer.join()
print("done")
