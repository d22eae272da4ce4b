// Traps. Usage: trap [unreachable|divide|overflow|bounds|indirect|null].
// LDFLAGS: -Wl,--no-check-features
#include "guest.h"

__attribute__((noinline)) static int64_t bad(const char *how, volatile int64_t zero) {
  if (strcmp(how, "divide") == 0)
    return (7 + zero) / zero;
  if (strcmp(how, "overflow") == 0)
    return (INT64_MIN + zero) / (zero - 1);
  if (strcmp(how, "bounds") == 0)
    return *(volatile int64_t *)(uintptr_t)(0xfffffff0u - (uint32_t)zero);
  if (strcmp(how, "indirect") == 0)
    return ((int64_t(*)(double, float))(uintptr_t)(1 + zero))(1, 2);
  if (strcmp(how, "null") == 0)
    return ((int64_t(*)(double, float))(uintptr_t)zero)(1, 2);
  __builtin_trap();
}

int main(int argc, char **argv) {
  say("before the trap\n");
  say("after the trap: %lld\n", (long long)bad(argc > 1 ? argv[1] : "unreachable", 0));
  return 0;
}
