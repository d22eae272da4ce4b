// State machines: a JSON reader driven by goto (control flow that a compiler
// has to restructure) and a table-driven automaton.
#include "guest.h"

static char text[1 << 16];
static size_t length;

static void put(const char *s) {
  size_t n = strlen(s);
  memcpy(text + length, s, n);
  length += n;
}

static void generate(uint64_t *seed, int depth) {
  uint64_t v = next(seed);
  char number[32];
  switch (depth > 6 || length > sizeof text / 2 ? v % 3 : v % 5) {
  case 0:
    snprintf(number, sizeof number, "%lld", (long long)(v >> 20) - 40000000000);
    put(number);
    return;
  case 1:
    snprintf(number, sizeof number, "\"s%llx\\n\"", (unsigned long long)(v >> 33));
    put(number);
    return;
  case 2:
    put(v & 64 ? "true" : "null");
    return;
  case 3:
    put("[");
    for (int i = 0, n = (int)(v >> 8) & 7; i < n; i++) {
      if (i)
        put(", ");
      generate(seed, depth + 1);
    }
    put("]");
    return;
  default:
    put("{");
    for (int i = 0, n = (int)(v >> 8) & 7; i < n; i++) {
      if (i)
        put(",");
      snprintf(number, sizeof number, "\"k%d\": ", i);
      put(number);
      generate(seed, depth + 1);
    }
    put("}");
  }
}

// scan counts what is in the text without recursion: the nesting is a bit stack.
static uint64_t scan(void) {
  uint64_t counts[6] = {0}, nesting = 1;
  int64_t sum = 0;
  const char *p = text;
value:
  switch (*p) {
  case ' ': p++; goto value;
  case '[': counts[0]++; nesting = nesting << 1; p++; if (*p == ']') goto close; goto value;
  case '{': counts[1]++; nesting = nesting << 1 | 1; p++; if (*p == '}') goto close; goto key;
  case '"': counts[2]++; goto string;
  case 't': counts[3]++; p += 4; goto after;
  case 'n': counts[4]++; p += 4; goto after;
  case '-': case '0': case '1': case '2': case '3': case '4': case '5': case '6': case '7': case '8': case '9': goto number;
  default: return 0;
  }
number: {
  int64_t v = 0, sign = 1;
  if (*p == '-') {
    sign = -1;
    p++;
  }
  while (*p >= '0' && *p <= '9')
    v = v * 10 + *p++ - '0';
  sum += sign * v;
  counts[5]++;
  goto after;
}
string:
  p++;
in_string:
  if (*p == '\\') {
    p += 2;
    goto in_string;
  }
  if (*p != '"') {
    p++;
    goto in_string;
  }
  p++;
  if (*p == ':') {
    p++;
    goto value;
  }
  goto after;
key:
  while (*p == ' ')
    p++;
  goto string;
close:
  p++;
  nesting >>= 1;
after:
  while (*p == ' ')
    p++;
  if (*p == ',') {
    p++;
    if (nesting & 1)
      goto key;
    goto value;
  }
  if (*p == ']' || *p == '}')
    goto close;
  uint64_t h = digest(DIGEST_START, counts, sizeof counts);
  return digest(h, &sum, sizeof sum);
}

// The automaton accepts multiples of 7 in binary, and counts them.
static unsigned automaton(void) {
  static const uint8_t to[7][2] = {{0, 1}, {2, 3}, {4, 5}, {6, 0}, {1, 2}, {3, 4}, {5, 6}};
  unsigned state = 0, accepted = 0;
  for (size_t i = 0; i < length; i++)
    for (int bit = 7; bit >= 0; bit--) {
      state = to[state][text[i] >> bit & 1];
      accepted += state == 0;
    }
  return accepted;
}

int main(int argc, char **argv) {
  long rounds = setup(argc, argv, 900);
  uint64_t seed = 17;
  for (long round = 0; round < rounds; round++) {
    length = 0;
    put("[0");
    while (length < 20000) {
      put(",");
      generate(&seed, 0);
    }
    put("]");
    text[length] = 0;
    say("%ld length=%zu scan=%016llx automaton=%u\n", round, length, (unsigned long long)scan(), automaton());
  }
  return 0;
}
