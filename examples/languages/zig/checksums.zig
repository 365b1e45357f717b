//! Checksums of standard input, in one pass: its length, CRC-32, SHA-256 and BLAKE3, each on a line.
const std = @import("std");

pub fn main() !void {
    var crc = std.hash.Crc32.init();
    var sha = std.crypto.hash.sha2.Sha256.init(.{});
    var blake = std.crypto.hash.Blake3.init(.{});
    var length: u64 = 0;
    var buffer: [65536]u8 = undefined;
    while (true) {
        const count = try std.posix.read(std.posix.STDIN_FILENO, &buffer);
        if (count == 0) break;
        const bytes = buffer[0..count];
        length += count;
        crc.update(bytes);
        sha.update(bytes);
        blake.update(bytes);
    }
    var blake_digest: [32]u8 = undefined;
    blake.final(&blake_digest);
    var text: [512]u8 = undefined;
    const lines = try std.fmt.bufPrint(&text, "bytes {d}\ncrc32 {x:0>8}\nsha256 {x}\nblake3 {x}\n", .{
        length, crc.final(), sha.finalResult(), blake_digest,
    });
    var rest: []const u8 = lines;
    while (rest.len > 0) rest = rest[try std.posix.write(std.posix.STDOUT_FILENO, rest)..];
}
