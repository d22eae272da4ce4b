// Takes memory until none is left, MIB (default 1) at a time; every byte is
// written. Ends with status 3 when malloc refuses.
#include "guest.h"

int main(int argc, char **argv) {
  size_t mib = argc > 1 ? strtoul(argv[1], NULL, 10) : 1;
  for (size_t held = 0;; held += mib) {
    char *p = malloc(mib << 20);
    if (!p) {
      say("no memory after %zu MiB\n", held);
      return 3;
    }
    memset(p, (int)held | 1, mib << 20);
    // The block must not be optimised away, though nobody reads it.
    __asm__ volatile("" : : "r"(p) : "memory");
  }
}
