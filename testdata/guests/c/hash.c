// SHA-256 and CRC-32 over a growing message.
#include "guest.h"

static const uint32_t K[64] = {
    0x428a2f98, 0x71374491, 0xb5c0fbcf, 0xe9b5dba5, 0x3956c25b, 0x59f111f1, 0x923f82a4, 0xab1c5ed5,
    0xd807aa98, 0x12835b01, 0x243185be, 0x550c7dc3, 0x72be5d74, 0x80deb1fe, 0x9bdc06a7, 0xc19bf174,
    0xe49b69c1, 0xefbe4786, 0x0fc19dc6, 0x240ca1cc, 0x2de92c6f, 0x4a7484aa, 0x5cb0a9dc, 0x76f988da,
    0x983e5152, 0xa831c66d, 0xb00327c8, 0xbf597fc7, 0xc6e00bf3, 0xd5a79147, 0x06ca6351, 0x14292967,
    0x27b70a85, 0x2e1b2138, 0x4d2c6dfc, 0x53380d13, 0x650a7354, 0x766a0abb, 0x81c2c92e, 0x92722c85,
    0xa2bfe8a1, 0xa81a664b, 0xc24b8b70, 0xc76c51a3, 0xd192e819, 0xd6990624, 0xf40e3585, 0x106aa070,
    0x19a4c116, 0x1e376c08, 0x2748774c, 0x34b0bcb5, 0x391c0cb3, 0x4ed8aa4a, 0x5b9cca4f, 0x682e6ff3,
    0x748f82ee, 0x78a5636f, 0x84c87814, 0x8cc70208, 0x90befffa, 0xa4506ceb, 0xbef9a3f7, 0xc67178f2};

static uint32_t rotr(uint32_t x, int n) { return x >> n | x << (32 - n); }

static void block(uint32_t s[8], const uint8_t *p) {
  uint32_t w[64];
  for (int i = 0; i < 16; i++)
    w[i] = (uint32_t)p[4 * i] << 24 | p[4 * i + 1] << 16 | p[4 * i + 2] << 8 | p[4 * i + 3];
  for (int i = 16; i < 64; i++) {
    uint32_t x = rotr(w[i - 15], 7) ^ rotr(w[i - 15], 18) ^ w[i - 15] >> 3;
    uint32_t y = rotr(w[i - 2], 17) ^ rotr(w[i - 2], 19) ^ w[i - 2] >> 10;
    w[i] = w[i - 16] + x + w[i - 7] + y;
  }
  uint32_t v[8];
  memcpy(v, s, sizeof v);
  for (int i = 0; i < 64; i++) {
    uint32_t t = v[7] + (rotr(v[4], 6) ^ rotr(v[4], 11) ^ rotr(v[4], 25)) + ((v[4] & v[5]) ^ (~v[4] & v[6])) + K[i] + w[i];
    uint32_t u = (rotr(v[0], 2) ^ rotr(v[0], 13) ^ rotr(v[0], 22)) + ((v[0] & v[1]) ^ (v[0] & v[2]) ^ (v[1] & v[2]));
    memmove(v + 1, v, 7 * sizeof v[0]);
    v[4] += t;
    v[0] = t + u;
  }
  for (int i = 0; i < 8; i++)
    s[i] += v[i];
}

static void sha256(const uint8_t *p, size_t n, uint32_t s[8]) {
  static const uint32_t start[8] = {0x6a09e667, 0xbb67ae85, 0x3c6ef372, 0xa54ff53a, 0x510e527f, 0x9b05688c, 0x1f83d9ab, 0x5be0cd19};
  memcpy(s, start, sizeof start);
  uint64_t bits = (uint64_t)n * 8;
  for (; n >= 64; n -= 64, p += 64)
    block(s, p);
  uint8_t last[128] = {0};
  memcpy(last, p, n);
  last[n] = 0x80;
  size_t total = n < 56 ? 64 : 128;
  for (int i = 0; i < 8; i++)
    last[total - 1 - i] = (uint8_t)(bits >> 8 * i);
  for (size_t at = 0; at < total; at += 64)
    block(s, last + at);
}

static uint32_t crc32(const uint8_t *p, size_t n) {
  uint32_t crc = ~0u;
  while (n--) {
    crc ^= *p++;
    for (int i = 0; i < 8; i++)
      crc = crc >> 1 ^ (0xedb88320 & -(crc & 1));
  }
  return ~crc;
}

int main(int argc, char **argv) {
  long rounds = setup(argc, argv, 250);
  static uint8_t message[1 << 16];
  uint64_t seed = 3;
  uint32_t s[8];
  sha256((const uint8_t *)"abc", 3, s);
  say("abc %08x%08x%08x%08x%08x%08x%08x%08x crc %08x\n", s[0], s[1], s[2], s[3], s[4], s[5], s[6], s[7],
      crc32((const uint8_t *)"123456789", 9));
  for (long round = 0; round < rounds; round++) {
    size_t n = sizeof message - (next(&seed) & 1023);
    for (size_t i = 0; i < n; i++)
      message[i] = (uint8_t)next(&seed);
    for (int again = 0; again < 4; again++) {
      sha256(message, n, s);
      memcpy(message, s, sizeof s);
    }
    say("%ld %08x%08x%08x%08x%08x%08x%08x%08x crc %08x\n", round, s[0], s[1], s[2], s[3], s[4], s[5], s[6], s[7],
        crc32(message, n));
  }
  return 0;
}
