// Backtracking recursion with state in globals and in parameters.
#include "guest.h"

static int size, column_of[16];
static long solutions;
static uint64_t seen;

static void place(int row, unsigned columns, unsigned left, unsigned right) {
  if (row == size) {
    solutions++;
    seen = digest(seen, column_of, size * sizeof column_of[0]);
    return;
  }
  for (int column = 0; column < size; column++) {
    unsigned bit = 1u << column;
    if ((columns | left | right) & bit)
      continue;
    column_of[row] = column;
    place(row + 1, columns | bit, (left | bit) << 1, (right | bit) >> 1);
  }
}

int main(int argc, char **argv) {
  long rounds = setup(argc, argv, 700);
  for (long round = 0; round < rounds; round++) {
    size = 7 + round % 5;
    solutions = 0;
    seen = DIGEST_START;
    place(0, 0, 0, 0);
    say("%ld queens(%d)=%ld %016llx\n", round, size, solutions, (unsigned long long)seen);
  }
  return 0;
}
