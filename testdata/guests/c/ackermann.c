// Deep recursion: many small frames (Ackermann), mutual recursion, and frames
// with arrays on the C stack.
// LDFLAGS: -Wl,-z,stack-size=1048576
#include "guest.h"

__attribute__((noinline)) static unsigned ackermann(unsigned m, unsigned n) {
  if (m == 0)
    return n + 1;
  if (n == 0)
    return ackermann(m - 1, 1);
  return ackermann(m - 1, ackermann(m, n - 1));
}

static unsigned male(unsigned n);

__attribute__((noinline)) static unsigned female(unsigned n) {
  return n == 0 ? 1 : n - male(female(n - 1));
}

__attribute__((noinline)) static unsigned male(unsigned n) {
  return n == 0 ? 0 : n - female(male(n - 1));
}

// descend keeps 64 bytes of every level alive until the levels below returned.
__attribute__((noinline)) static uint64_t descend(unsigned depth, uint64_t seed) {
  uint32_t kept[16];
  for (int i = 0; i < 16; i++)
    kept[i] = (uint32_t)next(&seed);
  if (depth == 0)
    return digest(DIGEST_START, kept, sizeof kept);
  uint64_t below = descend(depth - 1, seed);
  return digest(below, kept, sizeof kept);
}

int main(int argc, char **argv) {
  long rounds = setup(argc, argv, 200);
  for (long round = 0; round < rounds; round++) {
    unsigned n = 5 + round % 4;
    say("%ld ackermann(3,%u)=%u", round, n, ackermann(3, n));
    say(" female(%ld)=%u", 60 + round % 40, female(60 + round % 40));
    say(" descend=%016llx\n", (unsigned long long)descend(2000 + 50 * (round % 20), round));
  }
  return 0;
}
