#!/usr/bin/env python3
"""Two banks, an analyst and a regulator use one database that none of them can read.

    bailey database up examples/database/banks -- python3 examples/database/banks/run.py

`bailey database up` sets libpq's variables (PGHOST, PGPORT, PGDATABASE, PGSSLMODE, PGSSLROOTCERT): the root was pinned
after the database was appraised. Each party adds its own certificate and key. Needs psycopg 3: pip install 'psycopg[binary]'
"""

import datetime
import os
import pathlib
import random
import sys

try:
    import psycopg
except ImportError:
    sys.exit("psycopg is missing.\n  mend: pip install 'psycopg[binary]'")

FOLDER = pathlib.Path(os.environ["BAILEY_DATABASE_FOLDER"])
ROWS = int(os.environ.get("BANKS_ROWS", "100000"))
CUSTOMERS = 5000
RINGS = {3: 30, 5: 60, 6: 4, 9: 45}  # by month; June has too few to be told


def connect(party, name):
    """A usual connection with a usual driver."""
    of = FOLDER / "parties" / party
    return psycopg.connect(sslcert=of / f"{name}.pem", sslkey=of / f"{name}.key", autocommit=True)


def transfers(bank, seed):
    """What the customers of a bank pay, and its arcs of the rings."""
    chance = random.Random(seed)
    first = datetime.date(2026, 1, 1)
    for _ in range(ROWS):
        payer = f"{bank}-{chance.randrange(CUSTOMERS):05}"
        payee = f"{chance.choice(['north', 'south'])}-{chance.randrange(CUSTOMERS):05}"
        yield payer, payee, int(chance.lognormvariate(5, 1.2)) + 1, first + datetime.timedelta(chance.randrange(365))
    number = 0
    for month, rings in RINGS.items():
        for _ in range(rings):
            number += 1
            ring = [f"north-{90000 + number}", f"south-{90000 + number}", f"north-{80000 + number}"]
            day = datetime.date(2026, month, 1 + number % 20)
            for step, payer in enumerate(ring):
                if payer.startswith(bank):
                    payee = ring[(step + 1) % 3]
                    yield payer, payee, 5000 + 10 * number, day + datetime.timedelta(step)


def load(bank, seed):
    with connect(bank, "clerk") as connection, connection.cursor() as cursor:
        with cursor.copy("COPY transfers (payer, payee, amount, day) FROM STDIN") as copy:
            rows = 0
            for row in transfers(bank, seed):
                copy.write_row(row)
                rows += 1
    print(f"✓ {bank:<10} copied {rows} of its customers' transfers in")


def refused(who, what, statement, *parameters):
    """Shows that a party cannot do something."""
    with connect(*who) as connection:
        try:
            connection.execute(statement, parameters)
        except psycopg.Error as error:
            print(f"✗ {who[0]:<10} {what}: refused, SQLSTATE {error.sqlstate}: {error.diag.message_primary}")
            return
    sys.exit(f"{who[0]} could {what}: that must not be")


def main():
    print("— the banks bring their data —")
    load("north", 1)
    load("south", 2)

    print("\n— nobody sees rows —")
    clerk, ada = ("north", "clerk"), ("analyst", "ada")
    refused(clerk, "reads what it wrote", "SELECT * FROM transfers")
    refused(ada, "reads rows", "SELECT payer, amount FROM transfers LIMIT 1")
    refused(ada, "counts rows", "SELECT count(*) FROM transfers")
    refused(ada, "writes", "INSERT INTO transfers (payer, payee, amount, day) VALUES ('x', 'y', 1, '2026-01-01')")
    refused(ada, "calls what is the regulator's", "SELECT * FROM algorithm.suspects(5000)")
    refused(ada, "asks below the least amount that is allowed", "SELECT * FROM algorithm.rings_by_month(1)")

    print("\n— the analyst finds rings that cross both banks —")
    with connect(*ada) as connection:
        months = connection.execute("SELECT * FROM algorithm.rings_by_month(%s)", (5000,)).fetchall()
    for month, rings in months:
        print(f"  {month}  {rings:>4}  {'▇' * (rings // 3)}")
    found = {int(month[5:]): rings for month, rings in months}
    expected = {month: rings for month, rings in RINGS.items() if rings >= 10}
    if found != expected:
        sys.exit(f"expected {expected}, found {found}")
    print("  (June is not told: fewer than ten customers)")

    print("\n— how much money moves, with noise that hides every customer —")
    with connect(*ada) as connection:
        total = connection.execute("SELECT * FROM algorithm.volume()").fetchone()[0]
        print(f"  about {total:,.0f}")
        again = connection.execute("SELECT * FROM algorithm.volume()").fetchone()[0]
        if total != again:
            sys.exit("the same request must give the same answer")
        print("  asked again: the same answer, and nothing is charged for it")

    print("\n— the regulator may act —")
    with connect("regulator", "inspector") as connection:
        suspects = connection.execute("SELECT * FROM algorithm.suspects(5000)").fetchall()
    print(f"  {len(suspects)} accounts begin rings, the first: {', '.join(account for account, _ in suspects[:3])}")
    if len(suspects) != sum(RINGS.values()):
        sys.exit(f"expected {sum(RINGS.values())} accounts")
    print("\nall of it as agreed")


if __name__ == "__main__":
    main()
