// Sleeps and says how long it took by the monotonic clock.
//
// Usage: sleeper [MILLISECONDS [N [nanosleep|poll|stdin]]]. poll waits without
// descriptors, stdin waits for input at most that long.
#include "guest.h"
#include <poll.h>
#include <time.h>

static int64_t now(void) {
  struct timespec t;
  clock_gettime(CLOCK_MONOTONIC, &t);
  return (int64_t)t.tv_sec * 1000000000 + t.tv_nsec;
}

int main(int argc, char **argv) {
  long ms = argc > 1 ? strtol(argv[1], NULL, 10) : 1000;
  long n = argc > 2 ? strtol(argv[2], NULL, 10) : 1;
  const char *how = argc > 3 ? argv[3] : "nanosleep";
  int64_t first = now(), last = first;
  for (long i = 1; i <= n; i++) {
    say("%ld asleep for %ld ms\n", i, ms);
    if (strcmp(how, "nanosleep") == 0) {
      struct timespec t = {ms / 1000, ms % 1000 * 1000000};
      nanosleep(&t, NULL);
    } else {
      struct pollfd in = {.fd = 0, .events = POLLIN};
      int ready = poll(&in, strcmp(how, "stdin") == 0, (int)ms);
      if (ready < 0) {
        perror("poll");
        return 1;
      }
      if (ready > 0)
        say("%ld input\n", i);
    }
    int64_t t = now();
    if (t < last) {
      say("the clock ran backwards by %lld ns\n", (long long)(last - t));
      return 1;
    }
    say("%ld awake after %lld ms, %lld ms in all\n", i, (long long)((t - last) / 1000000), (long long)((t - first) / 1000000));
    last = t;
  }
  return 0;
}
