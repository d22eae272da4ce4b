//! Zig without a C library: generics, error unions, optionals, tagged unions,
//! slices, vectors, 128-bit integers and the allocator of the target.
//!
//! Usage: zig-generic [ROUNDS]. One line a round.

const std = @import("std");
const wasi = std.os.wasi;

const allocator = std.heap.wasm_allocator;

/// splitmix64: the same sequence for every engine and every run.
const Random = struct {
    state: u64,

    fn next(r: *Random) u64 {
        r.state +%= 0x9e3779b97f4a7c15;
        var z = r.state;
        z = (z ^ z >> 30) *% 0xbf58476d1ce4e5b9;
        z = (z ^ z >> 27) *% 0x94d049bb133111eb;
        return z ^ z >> 31;
    }
};

fn Heap(comptime T: type, comptime less: fn (T, T) bool) type {
    return struct {
        items: []T,
        len: usize = 0,

        const Self = @This();

        fn push(h: *Self, value: T) error{Full}!void {
            if (h.len == h.items.len) return error.Full;
            var i = h.len;
            h.len += 1;
            while (i > 0 and less(value, h.items[(i - 1) / 2])) : (i = (i - 1) / 2)
                h.items[i] = h.items[(i - 1) / 2];
            h.items[i] = value;
        }

        fn pop(h: *Self) ?T {
            if (h.len == 0) return null;
            const top = h.items[0];
            h.len -= 1;
            const value = h.items[h.len];
            var i: usize = 0;
            while (true) {
                var child = 2 * i + 1;
                if (child >= h.len) break;
                if (child + 1 < h.len and less(h.items[child + 1], h.items[child])) child += 1;
                if (!less(h.items[child], value)) break;
                h.items[i] = h.items[child];
                i = child;
            }
            h.items[i] = value;
            return top;
        }
    };
}

fn before(a: u64, b: u64) bool {
    return a < b;
}

const Expression = union(enum) {
    number: i64,
    add: [2]*const Expression,
    multiply: [2]*const Expression,
    divide: [2]*const Expression,

    fn random(r: *Random, depth: u32) error{OutOfMemory}!*const Expression {
        const e = try allocator.create(Expression);
        const v = r.next();
        if (depth == 0 or v % 7 == 0) {
            e.* = .{ .number = @as(i64, @intCast(v >> 56)) - 20 };
            return e;
        }
        const parts = [2]*const Expression{ try random(r, depth - 1), try random(r, depth - 1) };
        e.* = switch (v % 3) {
            0 => .{ .add = parts },
            1 => .{ .multiply = parts },
            else => .{ .divide = parts },
        };
        return e;
    }

    fn value(e: *const Expression) error{ Zero, Overflow }!i64 {
        return switch (e.*) {
            .number => |n| n,
            .add => |p| std.math.add(i64, try p[0].value(), try p[1].value()),
            .multiply => |p| std.math.mul(i64, try p[0].value(), try p[1].value()),
            .divide => |p| {
                const d = try p[1].value();
                if (d == 0) return error.Zero;
                return std.math.divTrunc(i64, try p[0].value(), d) catch error.Overflow;
            },
        };
    }

    fn free(e: *const Expression) void {
        switch (e.*) {
            .number => {},
            .add, .multiply, .divide => |p| {
                p[0].free();
                p[1].free();
            },
        }
        allocator.destroy(e);
    }
};

fn write(text: []const u8) void {
    const piece = [1]wasi.ciovec_t{.{ .base = text.ptr, .len = text.len }};
    var written: usize = 0;
    if (wasi.fd_write(1, &piece, 1, &written) != .SUCCESS or written != text.len) wasi.proc_exit(1);
}

fn argument(fallback: u32) !u32 {
    var n: usize = 0;
    var size: usize = 0;
    if (wasi.args_sizes_get(&n, &size) != .SUCCESS) return error.NoArguments;
    if (n < 2) return fallback;
    const pointers = try allocator.alloc([*:0]u8, n);
    defer allocator.free(pointers);
    const text = try allocator.alloc(u8, size);
    defer allocator.free(text);
    if (wasi.args_get(pointers.ptr, text.ptr) != .SUCCESS) return error.NoArguments;
    return std.fmt.parseInt(u32, std.mem.span(pointers[1]), 10);
}

fn round(r: *Random, n: u32) !void {
    var heap = Heap(u64, before){ .items = try allocator.alloc(u64, 3000) };
    defer allocator.free(heap.items);
    var refused: u32 = 0;
    for (0..3100) |_| heap.push(r.next() >> 8) catch {
        refused += 1;
    };
    var sum: u128 = 0;
    while (heap.pop()) |v| sum = sum *% 0x2360ed051fc65da44385df649fccf645 +% v;

    var lanes: @Vector(8, u32) = @splat(1);
    for (0..2000) |i| {
        const step: @Vector(8, u32) = @splat(@truncate(r.next() +% i));
        lanes = (lanes ^ step) *% @as(@Vector(8, u32), @splat(16777619));
    }

    const e = try Expression.random(r, 10);
    defer e.free();
    const result = e.value();

    var map = std.AutoHashMap(u64, u32).init(allocator);
    defer map.deinit();
    for (0..1000) |_| {
        const entry = try map.getOrPut(r.next() % 500);
        entry.value_ptr.* = if (entry.found_existing) entry.value_ptr.* + 1 else 1;
    }
    var most: u32 = 0;
    var values = map.valueIterator();
    while (values.next()) |v| most = @max(most, v.*);

    var buffer: [256]u8 = undefined;
    write(try std.fmt.bufPrint(&buffer, "{d} refused={d} sum={x} lanes={x} map={d},{d} ", .{ n, refused, sum, @reduce(.Add, lanes), map.count(), most }));
    if (result) |v| {
        write(try std.fmt.bufPrint(&buffer, "value={d}\n", .{v}));
    } else |err| {
        write(try std.fmt.bufPrint(&buffer, "value={s}\n", .{@errorName(err)}));
    }
}

pub fn main() !void {
    const rounds = try argument(2500);
    var r = Random{ .state = 1 };
    for (0..rounds) |n| try round(&r, @intCast(n));
}
