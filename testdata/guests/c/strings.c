// String formatting, parsing and searching through the C library.
// CFLAGS: -mbulk-memory
#include "guest.h"
#include <ctype.h>

int main(int argc, char **argv) {
  long rounds = setup(argc, argv, 900);
  uint64_t seed = 13;
  char *text = NULL;
  for (long round = 0; round < rounds; round++) {
    size_t capacity = 65536, length = 0;
    text = realloc(text, capacity);
    for (int i = 0; i < 400; i++) {
      uint64_t v = next(&seed);
      double d = (double)(int64_t)v / 65536.0;
      length += snprintf(text + length, capacity - length, "%d:%-12lld|%08x|%.17g|%10.3e|%a|%s;", i, (long long)(int32_t)v,
                         (unsigned)(v >> 32), d, d, d, v & 1 ? "odd" : "even");
    }
    long odd = 0, numbers = 0;
    double sum = 0;
    char *state = NULL;
    for (char *record = strtok_r(text, ";", &state); record; record = strtok_r(NULL, ";", &state)) {
      char *bar = strchr(record, '|');
      numbers += strtol(record, NULL, 10) + strtoll(strchr(record, ':') + 1, NULL, 10) % 97;
      sum += strtod(strchr(bar + 1, '|') + 1, NULL);
      odd += strstr(record, "odd") != NULL;
      for (char *c = record; *c; c++)
        *c = (char)toupper((unsigned char)*c);
    }
    char line[96];
    int n = snprintf(line, sizeof line, "numbers=%ld odd=%ld sum=%a", numbers, odd, sum);
    say("%ld %s (%d) %016llx\n", round, line, n, (unsigned long long)digest(DIGEST_START, text, length));
  }
  free(text);
  return 0;
}
