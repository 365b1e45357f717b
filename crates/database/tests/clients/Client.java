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
            try (ResultSet rows = meta.getSchemas()) { check(rows.next(), "schemas"); }
            try (ResultSet rows = meta.getTypeInfo()) { check(rows.next(), "types"); }
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
