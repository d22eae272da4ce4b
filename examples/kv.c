// A key-value server whose table is ordinary memory that lasts: no file, no log, no code that saves.
//
// Descriptor 3 is its listening socket. Lines are SET KEY VALUE, GET KEY, ADD KEY NUMBER, DEL KEY, COUNT and QUIT.
// LDFLAGS: -Wl,-z,stack-size=1048576
#include "lines.h"

enum { BUCKETS = 1 << 16 };

struct entry {
  struct entry *next;
  char *value;
  char key[];
};

static struct entry *table[BUCKETS];
static unsigned long entries;

// find returns where the pointer to an entry is, or would be.
static struct entry **find(const char *key) {
  unsigned hash = 2166136261u; // FNV-1a
  for (const char *p = key; *p; p++)
    hash = (hash ^ (unsigned char)*p) * 16777619u;
  struct entry **e = &table[hash % BUCKETS];
  while (*e && strcmp((*e)->key, key))
    e = &(*e)->next;
  return e;
}

static void set(const char *key, const char *value) {
  struct entry **e = find(key);
  if (!*e) {
    if (!(*e = calloc(1, sizeof **e + strlen(key) + 1)))
      abort();
    strcpy((*e)->key, key);
    entries++;
  }
  char *copy = strdup(value);
  if (!copy)
    abort();
  free((*e)->value);
  (*e)->value = copy;
}

static int unset(const char *key) {
  struct entry **e = find(key), *old = *e;
  if (!old)
    return 0;
  *e = old->next;
  free(old->value);
  free(old);
  entries--;
  return 1;
}

static void came(struct client *c) { (void)c; }
static void left(struct client *c) { (void)c; }

static void said(struct client *c, char *line) {
  char *word = strsep(&line, " "), *key = strsep(&line, " "), *value = line;
  struct entry *e = key ? *find(key) : NULL;
  if (!strcmp(word, "SET") && value) {
    set(key, value);
    tell(c, "OK\n");
  } else if (!strcmp(word, "GET") && key) {
    tell(c, e ? "=%s\n" : "none\n", e ? e->value : "");
  } else if (!strcmp(word, "ADD") && value) {
    char sum[32];
    snprintf(sum, sizeof sum, "%lld", (e ? atoll(e->value) : 0) + atoll(value));
    set(key, sum);
    tell(c, "=%s\n", sum);
  } else if (!strcmp(word, "DEL") && key) {
    tell(c, unset(key) ? "OK\n" : "none\n");
  } else if (!strcmp(word, "COUNT")) {
    tell(c, "=%lu\n", entries);
  } else if (!strcmp(word, "QUIT")) {
    c->over = 1;
  } else {
    tell(c, "SET KEY VALUE, GET KEY, ADD KEY NUMBER, DEL KEY, COUNT or QUIT\n");
  }
}

int main(void) { return serve_lines(); }
