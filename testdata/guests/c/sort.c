// qsort, bsearch and tables of functions: calls through call_indirect, with
// callbacks between library and program.
#include "guest.h"

typedef struct {
  uint64_t key;
  char name[12];
  int32_t weight;
} item;

static int by_key(const void *a, const void *b) {
  uint64_t x = ((const item *)a)->key, y = ((const item *)b)->key;
  return (x > y) - (x < y);
}

static int by_name(const void *a, const void *b) {
  int order = strcmp(((const item *)a)->name, ((const item *)b)->name);
  return order ? order : by_key(a, b);
}

static int by_weight(const void *a, const void *b) {
  int32_t x = ((const item *)a)->weight, y = ((const item *)b)->weight;
  return x == y ? by_key(a, b) : (x > y) - (x < y);
}

static int (*const orders[])(const void *, const void *) = {by_key, by_name, by_weight};

static double half(double x) { return x / 2; }
static double third(double x) { return x / 3; }
static double shift(double x) { return x - 17; }
static double (*volatile steps[])(double) = {half, third, shift};

static double chain(double x, const item *items, int n) {
  for (int i = 0; i < n; i++)
    x = steps[items[i].key % 3](x) + items[i].weight;
  return x;
}

int main(int argc, char **argv) {
  long rounds = setup(argc, argv, 80);
  enum { N = 6000 };
  static item items[N];
  uint64_t seed = 11;
  for (long round = 0; round < rounds; round++) {
    for (int i = 0; i < N; i++) {
      items[i].key = next(&seed);
      for (int k = 0; k < 11; k++)
        items[i].name[k] = 'a' + (items[i].key >> 4 * k) % 16;
      items[i].weight = (int32_t)(next(&seed) % 2000) - 1000;
    }
    uint64_t h = DIGEST_START;
    for (int o = 0; o < 3; o++) {
      qsort(items, N, sizeof items[0], orders[(o + round) % 3]);
      h = digest(h, items, sizeof items);
    }
    qsort(items, N, sizeof items[0], by_key);
    int found = 0;
    for (int i = 0; i < N; i++) {
      item want = {.key = i % 2 ? items[i].key : next(&seed)};
      found += bsearch(&want, items, N, sizeof items[0], by_key) != NULL;
    }
    say("%ld %016llx found=%d chain=%a\n", round, (unsigned long long)h, found, chain(1, items, N));
  }
  return 0;
}
