// Memory of which a known part changes: every round fills scattered pages with
// numbers that do not compress.
//
// Usage: dirty [ROUNDS [FILE [MIB [PAGES [MILLISECONDS]]]]]. ROUNDS 0 is for
// ever; FILE may be "-" for none. A round lasts MILLISECONDS at least: it
// computes until then, or sleeps when the number is negative.
#include "guest.h"
#include <time.h>

enum { PAGE = 4096 };
static volatile uint64_t spent;

static uint64_t now(void) {
  struct timespec t;
  clock_gettime(CLOCK_MONOTONIC, &t);
  return (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
}

int main(int argc, char **argv) {
  long rounds = setup(argc > 2 && strcmp(argv[2], "-") == 0 ? 2 : argc, argv, 900);
  size_t pages = (argc > 3 ? strtoul(argv[3], NULL, 10) : 8) * (1024 * 1024 / PAGE);
  size_t change = argc > 4 ? strtoul(argv[4], NULL, 10) : 1000;
  long pace = argc > 5 ? strtol(argv[5], NULL, 10) : 0;
  uint8_t *memory = aligned_alloc(PAGE, pages * PAGE);
  if (!memory || !pages) {
    fprintf(stderr, "dirty: no memory for %zu pages\n", pages);
    return 1;
  }
  for (size_t i = 0; i < pages; i++)
    memory[i * PAGE] = (uint8_t)i | 1;
  uint64_t seed = 61, idle = 0;
  size_t at = 0;
  for (long round = 0; rounds == 0 || round < rounds; round++) {
    uint64_t until = pace ? now() + (uint64_t)labs(pace) * 1000000 : 0;
    for (size_t i = 0; i < change; i++) {
      at = (at + 40503) % pages; // an odd prime: all pages are met before one is met again
      uint64_t *p = (uint64_t *)(memory + at * PAGE);
      for (int k = 0; k < PAGE / 8; k++)
        p[k] = next(&seed);
    }
    say("%ld changed %zu pages, the last is %zu: %016llx\n", round, change, at,
        (unsigned long long)digest(DIGEST_START, memory + at * PAGE, PAGE));
    if (pace < 0) {
      struct timespec t = {-pace / 1000, -pace % 1000 * 1000000};
      nanosleep(&t, NULL);
    }
    while (pace > 0 && now() < until)
      for (int k = 0; k < 1000; k++)
        spent = next(&idle);
  }
  uint64_t h = DIGEST_START;
  for (size_t i = 0; i < pages; i++)
    h = digest(h, memory + i * PAGE, 8);
  say("%zu pages, %016llx\n", pages, (unsigned long long)h);
  return 0;
}
