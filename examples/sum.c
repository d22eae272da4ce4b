// Adds up a long sum, and tells how far it is.
//
// Usage: sum [TERMS], 2,000,000,000 by default. The terms are pseudo-random, so that a wrong restore would show in the
// result, which is the same for everybody who adds as many.
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>

int main(int argc, char **argv) {
  uint64_t terms = argc > 1 ? strtoull(argv[1], NULL, 10) : 2000000000;
  uint64_t step = terms / 100 ? terms / 100 : 1;
  uint64_t x = 88172645463325252, sum = 0;
  setvbuf(stdout, NULL, _IOLBF, 0);
  for (uint64_t i = 1; i <= terms; i++) {
    x ^= x << 13, x ^= x >> 7, x ^= x << 17; // xorshift
    sum += x >> 32;
    if (i % step == 0)
      printf("%3d %%  sum %llu\n", (int)(i / step), (unsigned long long)sum);
  }
  printf("the sum of %llu terms is %llu\n", (unsigned long long)terms, (unsigned long long)sum);
  return 0;
}
