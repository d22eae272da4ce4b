// A bit sieve of Eratosthenes over one range after the other.
#include "guest.h"

enum { SPAN = 1 << 20 };
static uint8_t composite[SPAN / 8];
static uint32_t small[4096];

int main(int argc, char **argv) {
  long rounds = setup(argc, argv, 170);
  int n_small = 0;
  for (uint32_t i = 2; i < 32768; i++) {
    int prime = 1;
    for (int k = 0; k < n_small && small[k] * small[k] <= i; k++)
      if (i % small[k] == 0) {
        prime = 0;
        break;
      }
    if (prime)
      small[n_small++] = i;
  }
  uint64_t total = 0;
  for (long round = 0; round < rounds; round++) {
    uint64_t first = (uint64_t)(round % 500) * SPAN;
    memset(composite, 0, sizeof composite);
    for (int k = 0; k < n_small; k++) {
      uint64_t p = small[k], at = p * p;
      if (at < first)
        at = (first + p - 1) / p * p;
      for (; at < first + SPAN; at += p)
        composite[(at - first) >> 3] |= 1 << ((at - first) & 7);
    }
    unsigned found = 0;
    uint64_t last = 0;
    for (uint64_t i = first < 2 ? 2 - first : 0; i < SPAN; i++)
      if (!(composite[i >> 3] >> (i & 7) & 1)) {
        found++;
        last = first + i;
      }
    total += found;
    say("%ld primes below %llu: %llu, the last %llu\n", round, (unsigned long long)(first + SPAN),
        (unsigned long long)total, (unsigned long long)last);
  }
  return 0;
}
