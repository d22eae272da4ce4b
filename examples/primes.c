// Prints primes, a line for every thousandth.
//
// Usage: primes [LAST]. It stops after the LASTth prime; 0, the default, is never.
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>

static int is_prime(uint32_t n) {
  for (uint32_t d = 3; d <= n / d; d += 2)
    if (n % d == 0)
      return 0;
  return 1;
}

int main(int argc, char **argv) {
  unsigned long last = argc > 1 ? strtoul(argv[1], NULL, 10) : 0;
  unsigned long found = 1; // 2 is the only even one
  setvbuf(stdout, NULL, _IOLBF, 0);
  for (uint32_t n = 3; n < UINT32_MAX - 1 && (last == 0 || found < last); n += 2)
    if (is_prime(n) && ++found % 1000 == 0)
      printf("prime %lu is %u\n", found, n);
  return 0;
}
