// Prints a line at every beat of the clock on the wall, which goes on while nobody runs the program.
//
// Usage: timer [MILLISECONDS [BEATS]]: a beat every 1,000 ms, for ever by default. It waits for absolute times, so that
// it does not drift. Beats that it slept through are counted, not made up for.
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

int main(int argc, char **argv) {
  long long beat = (argc > 1 ? atoll(argv[1]) : 1000) * 1000000;
  long long beats = argc > 2 ? atoll(argv[2]) : 0;
  if (beat <= 0)
    return 1;
  struct timespec now;
  clock_gettime(CLOCK_REALTIME, &now);
  long long begin = now.tv_sec * 1000000000ll + now.tv_nsec, next = 1, missed = 0;
  setvbuf(stdout, NULL, _IOLBF, 0);
  for (long long n = 1; beats == 0 || n <= beats; n++) {
    long long at = begin + next * beat;
    struct timespec t = {at / 1000000000, (long)(at % 1000000000)};
    clock_nanosleep(CLOCK_REALTIME, TIMER_ABSTIME, &t, NULL);
    clock_gettime(CLOCK_REALTIME, &now);
    long long passed = (now.tv_sec * 1000000000ll + now.tv_nsec - begin) / beat;
    missed += passed - next;
    printf("beat %lld, %lld missed\n", n, missed);
    next = passed + 1;
  }
  return 0;
}
