// Holds 30,000 cells of memory, changes some of them in each round, and checks all of them.
//
// Usage: memory [ROUNDS [MILLISECONDS]]: 0, the default, is for ever; it pauses so long after each round. Each cell is a
// block of its own with links, a counter and bytes that follow from the counter. Status 1 says that a cell was not what
// it has to be.
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

enum { CELLS = 30000, CHANGES = 500 };

struct cell {
  struct cell *next; // of a ring of all cells
  uint32_t index, changes;
  uint8_t bytes[48];
};

static struct cell *cells[CELLS];

static uint8_t byte_of(const struct cell *c, size_t i) { return (uint8_t)(c->index * 31 + c->changes * 7 + i); }

static void fill(struct cell *c) {
  for (size_t i = 0; i < sizeof c->bytes; i++)
    c->bytes[i] = byte_of(c, i);
}

static int good(const struct cell *c) {
  for (size_t i = 0; i < sizeof c->bytes; i++)
    if (c->bytes[i] != byte_of(c, i))
      return 0;
  return 1;
}

int main(int argc, char **argv) {
  unsigned long rounds = argc > 1 ? strtoul(argv[1], NULL, 10) : 0;
  long pause = argc > 2 ? strtol(argv[2], NULL, 10) : 100;
  struct timespec t = {pause / 1000, pause % 1000 * 1000000};
  setvbuf(stdout, NULL, _IOLBF, 0);
  for (uint32_t i = 0; i < CELLS; i++) {
    struct cell *c = malloc(sizeof *c);
    if (!c)
      return 2;
    c->index = i;
    c->changes = 0;
    c->next = i ? cells[i - 1] : NULL;
    fill(c);
    cells[i] = c;
  }
  cells[0]->next = cells[CELLS - 1];
  uint32_t random = 1;
  for (unsigned long round = 1; rounds == 0 || round <= rounds; round++) {
    for (int i = 0; i < CHANGES; i++) {
      random = random * 1664525 + 1013904223;
      struct cell *c = cells[(random >> 8) % CELLS];
      c->changes++;
      fill(c);
    }
    uint64_t changes = 0;
    struct cell *c = cells[0];
    for (int i = 0; i < CELLS; i++, c = c->next) {
      if (!good(c)) {
        printf("round %lu: cell %u is wrong\n", round, c->index);
        return 1;
      }
      changes += c->changes;
    }
    if (c != cells[0] || changes != round * CHANGES) {
      printf("round %lu: %llu changes, should be %lu\n", round, (unsigned long long)changes, round * CHANGES);
      return 1;
    }
    printf("round %lu: %d cells are right after %llu changes\n", round, CELLS, (unsigned long long)changes);
    if (pause > 0)
      nanosleep(&t, NULL);
  }
  return 0;
}
