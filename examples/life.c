// Conway's game of life on a torus, which it draws again and again.
//
// Usage: life [STEPS [MILLISECONDS [WIDTH [HEIGHT]]]]: 0 steps, the default, is for ever; 200 ms, 64 and 20. It begins
// with a figure of five cells that is busy for more than a thousand steps.
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

static int width = 64, height = 20;

static int at(const char *world, int x, int y) {
  return world[(y + height) % height * width + (x + width) % width];
}

static void step(const char *from, char *to) {
  for (int y = 0; y < height; y++)
    for (int x = 0; x < width; x++) {
      int n = 0;
      for (int d = 0; d < 9; d++)
        if (d != 4)
          n += at(from, x + d % 3 - 1, y + d / 3 - 1);
      to[y * width + x] = (char)(n == 3 || (n == 2 && at(from, x, y)));
    }
}

static void draw(const char *world, unsigned long n) {
  int alive = 0;
  for (int y = 0; y < height; y++) {
    for (int x = 0; x < width; x++) {
      alive += at(world, x, y);
      putchar(at(world, x, y) ? 'o' : '.');
    }
    putchar('\n');
  }
  printf("step %lu, %d alive\n", n, alive);
  fflush(stdout);
}

int main(int argc, char **argv) {
  unsigned long steps = argc > 1 ? strtoul(argv[1], NULL, 10) : 0;
  long pause = argc > 2 ? strtol(argv[2], NULL, 10) : 200;
  if (argc > 3)
    width = atoi(argv[3]);
  if (argc > 4)
    height = atoi(argv[4]);
  if (width < 8 || height < 8 || width > 1000 || height > 1000)
    return 1;
  size_t size = (size_t)width * (size_t)height;
  char *now = calloc(1, size), *next = malloc(size);
  if (!now || !next)
    return 1;
  static const int pentomino[5][2] = {{1, 0}, {2, 0}, {0, 1}, {1, 1}, {1, 2}};
  for (int i = 0; i < 5; i++)
    now[(height / 2 + pentomino[i][1] - 1) * width + width / 2 + pentomino[i][0] - 1] = 1;
  struct timespec t = {pause / 1000, pause % 1000 * 1000000};
  for (unsigned long n = 1; steps == 0 || n <= steps; n++) {
    step(now, next);
    char *other = now;
    now = next, next = other;
    draw(now, n);
    if (pause > 0)
      nanosleep(&t, NULL);
  }
  return 0;
}
