// A chat server: what one says all see, and who comes later sees what was said before. There is no database; the memory
// of the program lasts, and so do the connections of its clients.
//
// Descriptor 3 is its listening socket. The first line of a client is its name. /who lists who is there, /quit leaves.
// LDFLAGS: -Wl,-z,stack-size=1048576
#include "lines.h"

enum { HISTORY = 100 };

static char history[HISTORY][LINE + 64];
static unsigned long total; // lines that were ever said

static void say(const char *name, const char *text) {
  char *line = history[total++ % HISTORY];
  snprintf(line, sizeof history[0], "%s: %s", name, text);
  for (int i = 1; i < count; i++)
    if (clients[i]->name[0])
      tell(clients[i], "%s\n", line);
  puts(line);
  fflush(stdout);
}

static void came(struct client *c) { tell(c, "Your name?\n"); }

static void left(struct client *c) {
  if (c->name[0])
    say("*", c->name);
}

static void said(struct client *c, char *line) {
  if (!c->name[0]) {
    snprintf(c->name, sizeof c->name, "%s", line[0] ? line : "somebody");
    for (unsigned long i = total < HISTORY ? 0 : total - HISTORY; i < total; i++)
      tell(c, "%s\n", history[i % HISTORY]);
    tell(c, "Welcome, %s: %lu lines were said so far.\n", c->name, total);
  } else if (!strcmp(line, "/who")) {
    for (int i = 1; i < count; i++)
      if (clients[i]->name[0])
        tell(c, "%s is here\n", clients[i]->name);
  } else if (!strcmp(line, "/quit")) {
    c->over = 1;
  } else {
    say(c->name, line);
  }
}

int main(void) { return serve_lines(); }
