// Memory that grows: blocks of many sizes up to SIZE MiB, written
// sparsely and read back, some freed and taken again.
#include "guest.h"

int main(int argc, char **argv) {
  long mib = setup(argc, argv, 100);
  enum { MAX = 4096 };
  static struct {
    uint8_t *at;
    size_t size;
    uint64_t seed;
  } blocks[MAX];
  size_t held = 0, want = (size_t)mib << 20;
  uint64_t seed = 29;
  int n = 0, made = 0;
  while (held < want && n < MAX) {
    size_t size = (size_t)1 << (12 + next(&seed) % 8);
    size += next(&seed) % size;
    blocks[n].at = malloc(size);
    if (!blocks[n].at) {
      say("no memory for %zu bytes\n", size);
      return 1;
    }
    blocks[n].size = size;
    blocks[n].seed = next(&seed);
    uint64_t s = blocks[n].seed;
    for (size_t at = 0; at < size; at += 1 + (s & 2047))
      blocks[n].at[at] = (uint8_t)next(&s);
    held += size;
    n++;
    made++;
    if (made % 4 == 0) {
      int drop = (int)(next(&seed) % (unsigned)n);
      held -= blocks[drop].size;
      free(blocks[drop].at);
      blocks[drop] = blocks[--n];
    }
    if (made % 16 == 0)
      say("%d blocks, %zu bytes, %zu wasm pages\n", n, held, __builtin_wasm_memory_size(0));
  }
  uint64_t h = DIGEST_START;
  long wrong = 0;
  for (int i = 0; i < n; i++) {
    uint64_t s = blocks[i].seed;
    for (size_t at = 0; at < blocks[i].size; at += 1 + (s & 2047)) {
      uint8_t got = blocks[i].at[at];
      // The step of the loop uses the seed after the write, so keep the order.
      wrong += got != (uint8_t)next(&s);
      h = digest(h, &got, 1);
    }
  }
  say("%d blocks, wrong=%ld, %016llx\n", n, wrong, (unsigned long long)h);
  for (int i = 0; i < n; i++)
    free(blocks[i].at);
  return wrong != 0;
}
