// Counts in a tight loop, in which it calls nothing, and carries a number along that each count changes: one count too few
// or too many, and all numbers from there on are others.
//
// Usage: tally [STEP [FILE [LINES]]]. It prints the count and the number whenever STEP more are counted, also to FILE, and
// ends after LINES lines (0: never).
#include "guest.h"

int main(int argc, char **argv) {
  long step = setup(argc, argv, 20000000);
  long lines = argc > 3 ? strtol(argv[3], NULL, 10) : 0;
  uint64_t count = 0, x = 1;
  for (long line = 0; lines == 0 || line < lines; line++) {
    for (long i = 0; i < step; i++) {
      x = x * 6364136223846793005u + 1442695040888963407u;
      count++;
    }
    say("%llu %016llx\n", (unsigned long long)count, (unsigned long long)x);
  }
  return 0;
}
