// Counts primes by trial division; a line of progress per 5000 numbers.
#include "guest.h"

int main(int argc, char **argv) {
  long rounds = setup(argc, argv, 900);
  uint32_t n = 2, found = 0;
  for (long round = 1; round <= rounds; round++) {
    uint32_t last = 0;
    for (; n < (uint32_t)round * 5000; n++) {
      int prime = 1;
      for (uint32_t d = 2; d * d <= n && prime; d++)
        prime = n % d != 0;
      if (prime) {
        found++;
        last = n;
      }
    }
    say("%u primes below %ld, the last %u\n", found, round * 5000, last);
  }
  return 0;
}
