// Recursion without end.
#include "guest.h"

static volatile uint64_t salt = 3;

__attribute__((noinline)) static uint64_t fall(uint64_t depth) {
  if (salt == 0) // never, but the compiler cannot know
    return depth;
  uint64_t below = fall(depth + salt);
  return below * salt + depth;
}

int main(void) {
  say("falling\n");
  say("landed at %llu\n", (unsigned long long)fall(0));
  return 0;
}
