// What a party does with node-postgres. Arguments: port, folder of certificates.
const assert = require("node:assert");
const fs = require("node:fs");
const { Client, Pool } = require("pg");

const [port, folder] = process.argv.slice(2);
const read = (name) => fs.readFileSync(`${folder}/${name}`, "utf8");
const options = (party) => ({
  host: "localhost",
  port: Number(port),
  database: "test",
  user: party,
  ssl: { ca: read("server.pem"), cert: read(`${party}.pem`), key: read(`${party}.key`) },
});

(async () => {
  const writer = new Client(options("bank_b"));
  await writer.connect();
  await writer.query("BEGIN");
  for (let number = 0; number < 20; number++) {
    await writer.query({ name: "insert", text: "INSERT INTO notes VALUES ($1, $2)", values: [number, "from Node"] });
  }
  await writer.query("COMMIT");
  await assert.rejects(writer.query("SELECT * FROM notes"), { code: "42501" });
  await assert.rejects(writer.query("SELECT 1; SELECT 2"), { code: "42501" });
  await writer.end();

  const pool = new Pool({ ...options("auditor"), max: 4 });
  const counts = await Promise.all([0, 5, 10, 15].map((id) => pool.query("SELECT count(*)::int AS n FROM notes WHERE id >= $1", [id])));
  assert.deepStrictEqual(counts.map((it) => it.rows[0].n), [20, 15, 10, 5]);
  await pool.end();

  const analyst = new Client(options("analyst"));
  await analyst.connect();
  const simple = await analyst.query("SELECT * FROM algorithm.volume(5)");
  const extended = await analyst.query("SELECT * FROM algorithm.volume($1)", [5]);
  assert.deepStrictEqual(simple.rows, extended.rows);
  assert.deepStrictEqual(simple.rows[1], { city: null, total: "-3" });
  await analyst.end();
  console.log("done");
})().catch((error) => {
  console.error(error);
  process.exit(1);
});
