// A reactor: it keeps a ledger, and other state, from call to call.
// CFLAGS: -mexec-model=reactor
#include "guest.h"
#include <time.h>
#include <unistd.h>

#define CALL(name) __attribute__((export_name(#name)))

static int64_t total;
static uint32_t entries, begun;
static uint64_t sum = DIGEST_START;
static uint32_t *book;

__attribute__((constructor)) static void begin(void) { begun++; }

// begun is how often the ledger was begun: 1.
CALL(begun) uint32_t how_often_begun(void) { return begun; }

CALL(total) int64_t what_total(void) { return total; }

// state is a digest of all that was done.
CALL(state) uint64_t what_state(void) {
  uint64_t h = digest(sum, &total, sizeof total);
  return digest(h, book, entries * sizeof *book);
}

static void enter(int32_t amount) {
  if (!(entries & (entries - 1)))
    book = realloc(book, (entries ? 2 * entries : 1) * sizeof *book);
  book[entries++] = (uint32_t)amount;
  total += amount;
  sum = digest(sum, &amount, sizeof amount);
}

CALL(add) int64_t add(int32_t amount) {
  enter(amount);
  return total;
}

// A tree of entries, by recursion.
__attribute__((noinline)) static uint64_t grow(uint32_t depth, uint64_t seed) {
  uint64_t leaf = next(&seed);
  enter((int32_t)(leaf & 0xffff) - 0x8000);
  if (depth == 0)
    return leaf;
  return digest(grow(depth - 1, leaf), &leaf, sizeof leaf) + grow(depth - 1, seed);
}

// work makes 2 to the power of depth entries, and as much besides.
CALL(work) uint64_t work(uint32_t depth, uint64_t seed) { return grow(depth, seed); }

CALL(mean) double mean(float bias) { return entries ? (double)total / entries + bias : bias; }

CALL(half) float half(double x) { return (float)(x / 2); }

// tell prints so many lines.
CALL(tell) void tell(uint32_t lines) {
  for (uint32_t i = 0; i < lines; i++)
    say("%u: total %lld\n", i, (long long)total);
}

// nap sleeps, and then enters 1.
CALL(nap) int64_t nap(uint32_t milliseconds) {
  struct timespec t = {milliseconds / 1000, milliseconds % 1000 * 1000000};
  nanosleep(&t, NULL);
  enter(1);
  return total;
}

// fail enters 7 and traps: that entry stays.
CALL(fail) void fail(void) {
  enter(7);
  __builtin_trap();
}

__attribute__((noinline)) static uint32_t sink(uint32_t n) { return n == UINT32_MAX ? n : (sink(n + 1) ^ n) * 0x9e3779b1u; }

// overflow traps for want of stack.
CALL(overflow) uint32_t overflow(uint32_t n) { return sink(n); }

CALL(leave) void leave(int32_t status) {
  enter(status);
  _exit(status);
}
