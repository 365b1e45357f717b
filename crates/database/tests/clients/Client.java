import java.sql.*;
import java.util.Properties;
import org.postgresql.PGConnection;
import org.postgresql.copy.CopyManager;

/** What a party does with JDBC. Arguments: port, folder of certificates. */
public class Client {
    static Connection connect(String[] arguments, String party) throws SQLException {
        Properties properties = new Properties();
        properties.put("user", party);
        properties.put("sslmode", "verify-full");
        properties.put("sslrootcert", arguments[1] + "/server.pem");
        properties.put("sslcert", arguments[1] + "/" + party + ".pem");
        properties.put("sslkey", arguments[1] + "/" + party + ".pk8");
        return DriverManager.getConnection("jdbc:postgresql://localhost:" + arguments[0] + "/test", properties);
    }

    static void check(boolean right, String what) {
        if (!right) throw new AssertionError(what);
    }

    static int rows(ResultSet rows) throws SQLException {
        int count = 0;
        try (rows) {
            while (rows.next()) count++;
        }
        return count;
    }

    /** What tools for analysis (Metabase, DBeaver, Tableau, Spark) ask of a driver when they look at a database. */
    static void metadata(Connection reader, DatabaseMetaData meta) throws SQLException {
        check(reader.isValid(5), "valid");
        check(meta.getDatabaseMajorVersion() >= 15 && meta.getSQLKeywords().length() > 0, "version and words");
        check(reader.getCatalog().equals("test") && reader.getSchema().equals("public"), "where it is");
        check(rows(meta.getCatalogs()) == 1, "catalogs");
        check(rows(meta.getSchemas()) > 0 && rows(meta.getSchemas(null, "public")) == 1, "schemas");
        check(rows(meta.getTableTypes()) > 0 && rows(meta.getTypeInfo()) > 0, "types");
        check(rows(meta.getTables(null, null, "%", new String[] {"TABLE", "VIEW", "MATERIALIZED VIEW"})) >= 3, "tables");
        check(rows(meta.getColumns(null, null, "notes", null)) == 2, "columns");
        check(rows(meta.getImportedKeys(null, "public", "notes")) == 0, "foreign keys");
        check(rows(meta.getExportedKeys(null, "public", "notes")) == 0, "keys that point here");
        check(rows(meta.getCrossReference(null, "public", "notes", null, "public", "payments")) == 0, "references");
        check(rows(meta.getBestRowIdentifier(null, "public", "notes", DatabaseMetaData.bestRowSession, true)) == 1, "a row's name");
        rows(meta.getVersionColumns(null, "public", "notes"));
        rows(meta.getTablePrivileges(null, "public", "notes"));
        rows(meta.getColumnPrivileges(null, "public", "notes", "%"));
        rows(meta.getProcedures(null, "public", "%"));
        rows(meta.getFunctions(null, "public", "%"));
        rows(meta.getFunctionColumns(null, "public", "%", "%"));
        rows(meta.getUDTs(null, "public", "%", null));
        rows(meta.getClientInfoProperties());
        meta.getMaxColumnNameLength();
        meta.getDefaultTransactionIsolation();
        int keys = 0;
        try (ResultSet index = meta.getIndexInfo(null, "public", "notes", false, true)) {
            while (index.next()) {
                keys++;
                check(index.getLong("CARDINALITY") <= 0 && index.getLong("PAGES") == 0, "a size is told");
            }
        }
        check(keys == 1, keys + " indexes");
        reader.setReadOnly(true);
        reader.setTransactionIsolation(Connection.TRANSACTION_REPEATABLE_READ);
        reader.setClientInfo("ApplicationName", "a tool");
        try (Statement statement = reader.createStatement(); ResultSet row = statement.executeQuery("SELECT * FROM notes LIMIT 1")) {
            ResultSetMetaData columns = row.getMetaData();
            check(columns.getColumnTypeName(1).equals("int8"), "a type");
            check(columns.isNullable(1) == ResultSetMetaData.columnNoNulls, "a rule of a column");
            check(((org.postgresql.PGResultSetMetaData) columns).getBaseTableName(1).equals("notes"), "a column's table");
        }
        reader.setTransactionIsolation(Connection.TRANSACTION_READ_COMMITTED);
        reader.setReadOnly(false);
    }

    public static void main(String[] arguments) throws Exception {
        try (Connection writer = connect(arguments, "bank_b")) {
            writer.setAutoCommit(false);
            try (PreparedStatement insert = writer.prepareStatement("INSERT INTO notes (id, body) VALUES (?, ?)")) {
                for (int number = 0; number < 100; number++) {
                    insert.setLong(1, number);
                    insert.setString(2, "from Java");
                    insert.addBatch();
                }
                insert.executeBatch();
            }
            writer.commit();
            CopyManager copy = writer.unwrap(PGConnection.class).getCopyAPI();
            long copied = copy.copyIn("COPY notes FROM STDIN", new java.io.StringReader("100\tcopied\n101\tcopied\n"));
            check(copied == 2, "COPY");
            writer.commit();
            try (Statement statement = writer.createStatement()) {
                statement.executeQuery("SELECT * FROM notes");
                check(false, "a blind writer reads");
            } catch (SQLException refusal) {
                check(refusal.getSQLState().equals("42501"), refusal.toString());
            }
            writer.rollback();
        }
        try (Connection reader = connect(arguments, "auditor")) {
            DatabaseMetaData meta = reader.getMetaData();
            int tables = 0;
            try (ResultSet rows = meta.getTables(null, "public", "%", new String[] {"TABLE"})) {
                while (rows.next()) tables++;
            }
            check(tables == 3, tables + " tables");
            int columns = 0;
            try (ResultSet rows = meta.getColumns(null, "public", "notes", "%")) {
                while (rows.next()) columns++;
            }
            check(columns == 2, columns + " columns");
            try (ResultSet rows = meta.getPrimaryKeys(null, "public", "notes")) {
                check(rows.next() && rows.getString("COLUMN_NAME").equals("id"), "the key");
            }
            metadata(reader, meta);
            try (PreparedStatement select = reader.prepareStatement("SELECT id, body FROM notes WHERE id >= ?")) {
                for (int round = 0; round < 10; round++) { // from the fifth on they are named and binary
                    select.setLong(1, 50);
                    int count = 0;
                    try (ResultSet rows = select.executeQuery()) {
                        while (rows.next()) count++;
                    }
                    check(count == 52, count + " rows");
                }
            }
            reader.setAutoCommit(false);
            try (Statement select = reader.createStatement()) {
                select.setFetchSize(10); // a portal that is suspended
                int count = 0;
                try (ResultSet rows = select.executeQuery("SELECT * FROM notes")) {
                    while (rows.next()) count++;
                }
                check(count == 102, count + " rows by portions");
            }
            reader.commit();
        }
        try (Connection analyst = connect(arguments, "analyst")) {
            try (PreparedStatement call = analyst.prepareStatement("SELECT * FROM algorithm.volume(?)")) {
                for (int round = 0; round < 10; round++) {
                    call.setInt(1, round);
                    try (ResultSet rows = call.executeQuery()) {
                        check(rows.next() && rows.getBigDecimal("total").toString().equals("12.50"), "a total");
                        check(rows.next() && rows.getString("city") == null && !rows.next(), "NULL");
                    }
                }
            }
            try (Statement call = analyst.createStatement(); ResultSet rows = call.executeQuery("SELECT * FROM algorithm.total()")) {
                check(rows.next() && rows.getLong(1) == 42, "the answer");
            }
        }
        System.out.println("done");
    }
}
