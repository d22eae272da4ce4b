// What the oracle guests share: the work size from argv, output to stdout and
// optionally to a file, a fixed random sequence and a digest.
//
// Usage of every guest that calls setup: GUEST [SIZE [FILE]]. SIZE is the
// number of rounds; each round prints one line. With FILE the same lines also
// go to that file, which must lie in a preopened directory.
#ifndef GUEST_H
#define GUEST_H

#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static FILE *copy;

static inline long setup(int argc, char **argv, long size) {
  if (argc > 1)
    size = strtol(argv[1], NULL, 10);
  if (argc > 2) {
    copy = fopen(argv[2], "w");
    if (!copy) {
      perror(argv[2]);
      exit(1);
    }
  }
  return size;
}

// say writes one piece of output and flushes it, so that output appears when
// the work behind it is done and not at exit.
__attribute__((format(printf, 1, 2))) static inline void say(const char *format, ...) {
  va_list args;
  va_start(args, format);
  vprintf(format, args);
  va_end(args);
  fflush(stdout);
  if (copy) {
    va_start(args, format);
    vfprintf(copy, format, args);
    va_end(args);
    fflush(copy);
  }
}

// next is splitmix64: the same sequence for every engine and every run.
static inline uint64_t next(uint64_t *seed) {
  uint64_t z = (*seed += 0x9e3779b97f4a7c15u);
  z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9u;
  z = (z ^ (z >> 27)) * 0x94d049bb133111ebu;
  return z ^ (z >> 31);
}

#define DIGEST_START 0xcbf29ce484222325u

// digest is FNV-1a, continued from h.
static inline uint64_t digest(uint64_t h, const void *data, size_t n) {
  const unsigned char *p = data;
  while (n--)
    h = (h ^ *p++) * 0x100000001b3u;
  return h;
}

#endif
