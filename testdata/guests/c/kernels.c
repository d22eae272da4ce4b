// The benchmark kernels: small loops and calls of the kinds that instrumented
// code can be slow at.
//
// Usage: kernels [NAME|all [REPS]] prints a checksum. Every kernel is also an
// export, bench_NAME(i32 reps) -> i64 checksum, which needs no _start before
// it, so that a benchmark times nothing but the kernel.
#include "guest.h"

#define KERNEL(name) __attribute__((export_name("bench_" #name))) uint64_t bench_##name(uint32_t reps)

__attribute__((noinline)) static uint32_t fib(uint32_t n) { return n < 2 ? n : fib(n - 1) + fib(n - 2); }

KERNEL(fib) {
  uint64_t sum = 0;
  for (uint32_t r = 0; r < reps; r++)
    sum += fib(30 + (r & 1));
  return sum;
}

static uint32_t queens(uint32_t all, uint32_t columns, uint32_t left, uint32_t right) {
  if (columns == all)
    return 1;
  uint32_t found = 0;
  for (uint32_t free = all & ~(columns | left | right); free;) {
    uint32_t bit = free & -free;
    free ^= bit;
    found += queens(all, columns | bit, (left | bit) << 1, (right | bit) >> 1);
  }
  return found;
}

KERNEL(nqueens) {
  uint64_t sum = 0;
  for (uint32_t r = 0; r < reps; r++)
    sum += queens((1u << (10 + (r & 1))) - 1, 0, 0, 0);
  return sum;
}

enum { GEMM = 160 };
static double ga[GEMM][GEMM], gb[GEMM][GEMM], gc[GEMM][GEMM];

KERNEL(gemm) {
  uint64_t h = DIGEST_START;
  for (uint32_t r = 0; r < reps; r++) {
    for (int i = 0; i < GEMM; i++)
      for (int j = 0; j < GEMM; j++) {
        ga[i][j] = (double)(i * 3 + j + (int)r) / GEMM;
        gb[i][j] = (double)(i - j * 2 - (int)r) / GEMM;
      }
    for (int i = 0; i < GEMM; i++)
      for (int j = 0; j < GEMM; j++) {
        double sum = 0;
        for (int k = 0; k < GEMM; k++)
          sum += ga[i][k] * gb[k][j];
        gc[i][j] = sum;
      }
    h = digest(h, gc[r % GEMM], sizeof gc[0]);
  }
  return h;
}

static const uint32_t sha_k[64] = {
    0x428a2f98, 0x71374491, 0xb5c0fbcf, 0xe9b5dba5, 0x3956c25b, 0x59f111f1, 0x923f82a4, 0xab1c5ed5,
    0xd807aa98, 0x12835b01, 0x243185be, 0x550c7dc3, 0x72be5d74, 0x80deb1fe, 0x9bdc06a7, 0xc19bf174,
    0xe49b69c1, 0xefbe4786, 0x0fc19dc6, 0x240ca1cc, 0x2de92c6f, 0x4a7484aa, 0x5cb0a9dc, 0x76f988da,
    0x983e5152, 0xa831c66d, 0xb00327c8, 0xbf597fc7, 0xc6e00bf3, 0xd5a79147, 0x06ca6351, 0x14292967,
    0x27b70a85, 0x2e1b2138, 0x4d2c6dfc, 0x53380d13, 0x650a7354, 0x766a0abb, 0x81c2c92e, 0x92722c85,
    0xa2bfe8a1, 0xa81a664b, 0xc24b8b70, 0xc76c51a3, 0xd192e819, 0xd6990624, 0xf40e3585, 0x106aa070,
    0x19a4c116, 0x1e376c08, 0x2748774c, 0x34b0bcb5, 0x391c0cb3, 0x4ed8aa4a, 0x5b9cca4f, 0x682e6ff3,
    0x748f82ee, 0x78a5636f, 0x84c87814, 0x8cc70208, 0x90befffa, 0xa4506ceb, 0xbef9a3f7, 0xc67178f2};

static inline uint32_t rotr(uint32_t x, int n) { return x >> n | x << (32 - n); }

__attribute__((noinline)) static void sha_block(uint32_t s[8], const uint8_t *p) {
  uint32_t w[64];
  for (int i = 0; i < 16; i++)
    w[i] = (uint32_t)p[4 * i] << 24 | p[4 * i + 1] << 16 | p[4 * i + 2] << 8 | p[4 * i + 3];
  for (int i = 16; i < 64; i++) {
    uint32_t x = rotr(w[i - 15], 7) ^ rotr(w[i - 15], 18) ^ w[i - 15] >> 3;
    uint32_t y = rotr(w[i - 2], 17) ^ rotr(w[i - 2], 19) ^ w[i - 2] >> 10;
    w[i] = w[i - 16] + x + w[i - 7] + y;
  }
  uint32_t a = s[0], b = s[1], c = s[2], d = s[3], e = s[4], f = s[5], g = s[6], h = s[7];
  for (int i = 0; i < 64; i++) {
    uint32_t t = h + (rotr(e, 6) ^ rotr(e, 11) ^ rotr(e, 25)) + ((e & f) ^ (~e & g)) + sha_k[i] + w[i];
    uint32_t u = (rotr(a, 2) ^ rotr(a, 13) ^ rotr(a, 22)) + ((a & b) ^ (a & c) ^ (b & c));
    h = g;
    g = f;
    f = e;
    e = d + t;
    d = c;
    c = b;
    b = a;
    a = t + u;
  }
  s[0] += a;
  s[1] += b;
  s[2] += c;
  s[3] += d;
  s[4] += e;
  s[5] += f;
  s[6] += g;
  s[7] += h;
}

KERNEL(sha256) {
  static uint8_t message[1 << 14];
  uint32_t s[8] = {0x6a09e667, 0xbb67ae85, 0x3c6ef372, 0xa54ff53a, 0x510e527f, 0x9b05688c, 0x1f83d9ab, 0x5be0cd19};
  for (uint32_t r = 0; r < reps; r++) {
    for (size_t i = 0; i < sizeof message; i++)
      message[i] = (uint8_t)(i * 7 + r);
    for (int again = 0; again < 256; again++)
      for (size_t at = 0; at < sizeof message; at += 64)
        sha_block(s, message + at);
  }
  return digest(DIGEST_START, s, sizeof s);
}

KERNEL(sieve) {
  enum { N = 1 << 20 };
  static uint8_t composite[N];
  uint64_t sum = 0;
  for (uint32_t r = 0; r < reps; r++) {
    memset(composite, 0, sizeof composite);
    for (uint32_t i = 2; i < N; i++) {
      if (composite[i])
        continue;
      sum += i ^ r;
      for (uint32_t k = i * 2; k < N; k += i)
        composite[k] = 1;
    }
  }
  return sum;
}

KERNEL(interp) {
  enum { PUSH, LOAD, STORE, ADD, SUB, MUL, XOR, AND, SHR, LT, JNZ, DUP, HALT };
  // v0 counts down from 1,000,000; v1 and v2 are mixed on the way.
  static const struct {
    uint8_t op;
    int32_t arg;
  } code[] = {
      {PUSH, 1000000}, {STORE, 0}, {LOAD, 1}, {PUSH, 1103515245}, {MUL, 0}, {PUSH, 12345}, {ADD, 0},
      {DUP, 0}, {STORE, 1}, {PUSH, 7}, {SHR, 0}, {LOAD, 2}, {XOR, 0}, {PUSH, 0x3fffffff}, {AND, 0}, {STORE, 2},
      {LOAD, 0}, {PUSH, 1}, {SUB, 0}, {DUP, 0}, {STORE, 0}, {PUSH, 0}, {LOAD, 0}, {LT, 0}, {AND, 0}, {LOAD, 0}, {JNZ, 2}, {HALT, 0}};
  uint32_t stack[64], v[4] = {0}, pc, sp;
  uint64_t sum = 0;
  for (uint32_t r = 0; r < reps; r++) {
    v[1] += r;
    for (pc = 0, sp = 0;;) {
      int op = code[pc].op;
      int32_t arg = code[pc++].arg;
      switch (op) {
      case PUSH: stack[sp++ & 63] = (uint32_t)arg; continue;
      case LOAD: stack[sp++ & 63] = v[arg & 3]; continue;
      case STORE: v[arg & 3] = stack[--sp & 63]; continue;
      case ADD: sp--; stack[(sp - 1) & 63] += stack[sp & 63]; continue;
      case SUB: sp--; stack[(sp - 1) & 63] -= stack[sp & 63]; continue;
      case MUL: sp--; stack[(sp - 1) & 63] *= stack[sp & 63]; continue;
      case XOR: sp--; stack[(sp - 1) & 63] ^= stack[sp & 63]; continue;
      case AND: sp--; stack[(sp - 1) & 63] &= stack[sp & 63]; continue;
      case SHR: sp--; stack[(sp - 1) & 63] >>= stack[sp & 63] & 31; continue;
      case LT: sp--; stack[(sp - 1) & 63] = stack[(sp - 1) & 63] < stack[sp & 63]; continue;
      case JNZ: if (stack[--sp & 63]) pc = (uint32_t)arg; continue;
      case DUP: stack[sp & 63] = stack[(sp - 1) & 63]; sp++; continue;
      case HALT: break;
      }
      break;
    }
    sum = sum * 31 + v[1] + v[2];
  }
  return sum;
}

static int ascending(const void *a, const void *b) {
  uint32_t x = *(const uint32_t *)a, y = *(const uint32_t *)b;
  return (x > y) - (x < y);
}

KERNEL(qsort) {
  enum { N = 1 << 16 };
  static uint32_t numbers[N];
  uint64_t h = DIGEST_START, seed = 41;
  for (uint32_t r = 0; r < reps; r++) {
    for (int i = 0; i < N; i++)
      numbers[i] = (uint32_t)next(&seed);
    qsort(numbers, N, sizeof numbers[0], ascending);
    h = digest(h, numbers, 4096);
  }
  return h;
}

typedef struct leaf {
  struct leaf *left, *right;
} leaf;

static leaf *grow(int depth) {
  leaf *l = malloc(sizeof *l);
  l->left = depth ? grow(depth - 1) : NULL;
  l->right = depth ? grow(depth - 1) : NULL;
  return l;
}

static uint32_t fell(leaf *l) {
  uint32_t n = 1;
  if (l->left)
    n += fell(l->left) + fell(l->right);
  free(l);
  return n;
}

KERNEL(tree) {
  uint64_t sum = 0;
  for (uint32_t r = 0; r < reps; r++)
    sum += fell(grow(15 + (int)(r & 1)));
  return sum;
}

__attribute__((noinline)) static uint32_t tiny(uint32_t x, uint32_t y) { return (x ^ y) * 5 + 1; }

KERNEL(calls) {
  uint32_t x = 1;
  for (uint32_t r = 0; r < reps; r++)
    for (uint32_t i = 0; i < 10000000; i++)
      x = tiny(x, i ^ r);
  return x;
}

KERNEL(crc) {
  static uint32_t table[256];
  static uint8_t message[1 << 16];
  for (uint32_t i = 0; i < 256; i++) {
    uint32_t c = i;
    for (int k = 0; k < 8; k++)
      c = c >> 1 ^ (0xedb88320 & -(c & 1));
    table[i] = c;
  }
  for (size_t i = 0; i < sizeof message; i++)
    message[i] = (uint8_t)(i * 31 >> 3);
  uint32_t crc = ~0u;
  for (uint32_t r = 0; r < reps; r++)
    for (int again = 0; again < 128; again++)
      for (size_t i = 0; i < sizeof message; i++)
        crc = table[(crc ^ message[i]) & 255] ^ crc >> 8;
  return ~crc;
}

KERNEL(strs) {
  static char text[1 << 12];
  uint64_t h = DIGEST_START;
  for (uint32_t r = 0; r < reps; r++)
    for (int i = 0; i < 2000; i++) {
      int n = snprintf(text, sizeof text, "%d-%s-%08x-%5.3f-%lld", i, i & 1 ? "odd" : "even", i * 77777u + r, i * 1.25, (long long)i << 32);
      char *dash = strrchr(text, '-');
      h = h * 31 + (uint64_t)n + strlen(text) + (uint64_t)atoll(dash + 1) + (strstr(text, "even") != NULL);
    }
  return h;
}

typedef struct cell {
  struct cell *next;
  uint32_t value;
} cell;

KERNEL(list) {
  enum { N = 1 << 14 };
  static cell cells[N];
  uint64_t sum = 0, seed = 43;
  for (uint32_t r = 0; r < reps; r++) {
    cell *l = NULL;
    for (int i = 0; i < N; i++) {
      cell *c = &cells[(i * 7919u) % N];
      c->value = (uint32_t)next(&seed);
      c->next = l;
      l = c;
    }
    for (int again = 0; again < 100; again++) {
      cell *reversed = NULL;
      while (l) {
        cell *rest = l->next;
        l->next = reversed;
        reversed = l;
        sum += l->value ^ (uint32_t)again;
        l = rest;
      }
      l = reversed;
    }
  }
  return sum;
}

static const struct {
  const char *name;
  uint64_t (*run)(uint32_t);
} kernels[] = {{"fib", bench_fib}, {"nqueens", bench_nqueens}, {"gemm", bench_gemm}, {"sha256", bench_sha256}, {"sieve", bench_sieve}, {"interp", bench_interp}, {"qsort", bench_qsort}, {"tree", bench_tree}, {"calls", bench_calls}, {"crc", bench_crc}, {"strs", bench_strs}, {"list", bench_list}};

int main(int argc, char **argv) {
  const char *name = argc > 1 ? argv[1] : "all";
  uint32_t reps = argc > 2 ? (uint32_t)strtoul(argv[2], NULL, 10) : 1;
  int found = 0;
  for (size_t i = 0; i < sizeof kernels / sizeof kernels[0]; i++)
    if (strcmp(name, "all") == 0 || strcmp(name, kernels[i].name) == 0) {
      say("%s %016llx\n", kernels[i].name, (unsigned long long)kernels[i].run(reps));
      found = 1;
    }
  if (!found)
    fprintf(stderr, "kernels: no kernel %s\n", name);
  return found ? 0 : 2;
}
