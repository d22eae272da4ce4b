// Prints 1, 2, 3 …, one number a line.
//
// Usage: counter [MILLISECONDS [N [FILE]]]. It sleeps between two lines, stops
// after N lines (0: never) and writes the same lines to FILE.
#include "guest.h"
#include <time.h>

int main(int argc, char **argv) {
  long pause = argc > 1 ? strtol(argv[1], NULL, 10) : 100;
  unsigned long long last = argc > 2 ? strtoull(argv[2], NULL, 10) : 0;
  if (argc > 3)
    setup(argc - 1, argv + 1, 0);
  struct timespec t = {pause / 1000, pause % 1000 * 1000000};
  for (unsigned long long i = 1; last == 0 || i <= last; i++) {
    say("%llu\n", i);
    if (pause > 0)
      nanosleep(&t, NULL);
  }
  return 0;
}
