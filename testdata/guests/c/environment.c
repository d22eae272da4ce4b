// Prints its arguments, its environment, and whether the two clocks, the random
// source and the working directory can be asked.
#include "guest.h"
#include <time.h>
#include <unistd.h>

extern char **environ;

int main(int argc, char **argv) {
  for (int i = 0; i < argc; i++)
    say("arg %d %s\n", i, argv[i]);
  for (char **e = environ; e && *e; e++)
    say("env %s\n", *e);
  struct timespec real, monotonic;
  char random[16], cwd[256];
  say("realtime %s\n", clock_gettime(CLOCK_REALTIME, &real) ? "no" : "yes");
  say("monotonic %s\n", clock_gettime(CLOCK_MONOTONIC, &monotonic) ? "no" : "yes");
  say("random %s\n", getentropy(random, sizeof random) ? "no" : "yes");
  say("cwd %s\n", getcwd(cwd, sizeof cwd) ? cwd : "no");
  return 0;
}
