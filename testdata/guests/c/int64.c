// 64-bit integers: modular powers, primality tests, division, rotation, bit
// counts and 128-bit products.
// CFLAGS: -msign-ext
#include "guest.h"

// multiply is a*b mod m for a, b < m < 2^63, by doubling.
static uint64_t multiply(uint64_t a, uint64_t b, uint64_t m) {
  uint64_t result = 0;
  for (; b; b >>= 1) {
    if (b & 1)
      result = result + a >= m ? result + a - m : result + a;
    a = a + a >= m ? a + a - m : a + a;
  }
  return result;
}

static uint64_t power(uint64_t base, uint64_t exponent, uint64_t m) {
  uint64_t result = 1;
  for (base %= m; exponent; exponent >>= 1) {
    if (exponent & 1)
      result = multiply(result, base, m);
    base = multiply(base, base, m);
  }
  return result;
}

static int prime(uint64_t n) {
  static const uint64_t bases[] = {2, 3, 5, 7, 11, 13, 17, 19, 23, 29, 31, 37};
  for (int i = 0; i < 12; i++) {
    if (n == bases[i])
      return 1;
    if (n % bases[i] == 0)
      return 0;
  }
  int s = __builtin_ctzll(n - 1);
  uint64_t d = (n - 1) >> s;
  for (int i = 0; i < 12; i++) {
    uint64_t x = power(bases[i], d, n);
    if (x == 1 || x == n - 1)
      continue;
    int r = 1;
    for (; r < s; r++) {
      x = multiply(x, x, n);
      if (x == n - 1)
        break;
    }
    if (r == s)
      return 0;
  }
  return 1;
}

static uint64_t gcd(uint64_t a, uint64_t b) {
  while (b) {
    uint64_t t = a % b;
    a = b;
    b = t;
  }
  return a;
}

int main(int argc, char **argv) {
  long rounds = setup(argc, argv, 1000);
  uint64_t seed = 23;
  for (long round = 0; round < rounds; round++) {
    uint64_t n = next(&seed) >> 2 | 1, tried = 0;
    while (!prime(n)) {
      n += 2;
      tried++;
    }
    uint64_t h = DIGEST_START;
    for (int i = 0; i < 5000; i++) {
      uint64_t a = next(&seed), b = next(&seed) >> (i % 60) | 1;
      int64_t sa = (int64_t)a, sb = (int64_t)b | 2;
      uint64_t v[] = {a / b, a % b, (uint64_t)(sa / sb), (uint64_t)(sa % sb), (uint64_t)(sa >> (b & 63)), a << (b & 63) | a >> (-b & 63), (uint64_t)((unsigned __int128)a * b >> 64),
                      (uint64_t)__builtin_clzll(b), (uint64_t)__builtin_popcountll(a), (uint64_t)(int64_t)(int8_t)a,
                      (uint64_t)(int64_t)(int16_t)a, (uint64_t)(int64_t)(int32_t)a, (uint64_t)(sa < sb) + 2 * (a < b)};
      h = digest(h, v, sizeof v);
    }
    say("%ld next prime %llu after %llu, gcd %llu, %016llx\n", round, (unsigned long long)n, (unsigned long long)tried,
        (unsigned long long)gcd(n - 1, next(&seed) & ~1023ull), (unsigned long long)h);
  }
  return 0;
}
