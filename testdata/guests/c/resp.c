// A key-value server that speaks RESP, the protocol of Redis: GET, SET, DEL, INCR, PING, pipelined or not.
//
// Usage: resp [LISTENER]. LISTENER is the descriptor of the listening socket, 3 by default. It prints a line when it
// has begun.
//
// LDFLAGS: -Wl,-z,stack-size=1048576
#include "guest.h"
#include <ctype.h>
#include <errno.h>
#include <limits.h>
#include <poll.h>
#include <strings.h>
#include <sys/socket.h>
#include <unistd.h>

enum { MAX_ARGS = 8, MAX_REQUEST = 1 << 20, CHUNK = 16384 };

static void *must(void *p) {
  if (!p)
    abort();
  return p;
}

struct entry {
  struct entry *next;
  uint64_t hash;
  uint32_t key_size, size;
  char *value;
  char key[];
};

static struct entry **table;
static size_t slots, entries;

static struct entry **find(const char *key, size_t size, uint64_t hash) {
  struct entry **e = &table[hash & (slots - 1)];
  while (*e && ((*e)->hash != hash || (*e)->key_size != size || memcmp((*e)->key, key, size)))
    e = &(*e)->next;
  return e;
}

static void grow(void) {
  size_t old = slots;
  struct entry **from = table;
  slots = old ? 2 * old : 1024;
  table = must(calloc(slots, sizeof *table));
  for (size_t i = 0; i < old; i++)
    for (struct entry *e = from[i], *next; e; e = next) {
      next = e->next;
      e->next = table[e->hash & (slots - 1)];
      table[e->hash & (slots - 1)] = e;
    }
  free(from);
}

static void set(const char *key, size_t key_size, uint64_t hash, const char *value, size_t size) {
  struct entry **at = find(key, key_size, hash), *e = *at;
  if (!e) {
    e = must(malloc(sizeof *e + key_size));
    *e = (struct entry){.hash = hash, .key_size = (uint32_t)key_size};
    memcpy(e->key, key, key_size);
    *at = e;
    if (++entries > slots)
      grow();
  }
  if (e->size != size || !e->value)
    e->value = must(realloc(e->value, size ? size : 1));
  e->size = (uint32_t)size;
  memcpy(e->value, value, size);
}

struct buffer {
  char *data;
  size_t from, to, room;
};

// room makes room for n bytes more.
static char *room(struct buffer *b, size_t n) {
  if (b->from == b->to)
    b->from = b->to = 0;
  if (b->to + n > b->room && b->from > 0) {
    memmove(b->data, b->data + b->from, b->to - b->from);
    b->to -= b->from;
    b->from = 0;
  }
  if (b->to + n > b->room) {
    b->room = 2 * (b->to + n);
    b->data = must(realloc(b->data, b->room));
  }
  return b->data + b->to;
}

static void put(struct buffer *b, const char *data, size_t n) {
  memcpy(room(b, n), data, n);
  b->to += n;
}

static void put_text(struct buffer *b, const char *text) { put(b, text, strlen(text)); }

enum { DIGITS = 20 }; // of a number, with its sign

// decimal writes a number that ends where end points, and returns where it begins.
static char *decimal(char *end, long long v) {
  unsigned long long n = v < 0 ? 0 - (unsigned long long)v : (unsigned long long)v;
  do
    *--end = (char)('0' + n % 10);
  while (n /= 10);
  if (v < 0)
    *--end = '-';
  return end;
}

// put_number puts a number between a letter and the end of a line.
static void put_number(struct buffer *b, char letter, long long v) {
  char text[1 + DIGITS + 2], *end = text + 1 + DIGITS, *begin = decimal(end, v);
  *--begin = letter;
  memcpy(end, "\r\n", 2);
  put(b, begin, (size_t)(end + 2 - begin));
}

struct text {
  const char *data;
  size_t size;
};

// number reads the digits of a text, and returns 0 if there is anything else.
static int number(struct text t, long long *v) {
  int negative = t.size > 0 && t.data[0] == '-';
  unsigned long long n = 0;
  if (t.size == (size_t)negative || t.size > 19)
    return 0;
  for (size_t i = (size_t)negative; i < t.size; i++) {
    if (!isdigit((unsigned char)t.data[i]))
      return 0;
    n = 10 * n + (unsigned long long)(t.data[i] - '0');
  }
  if (n > LLONG_MAX)
    return 0;
  *v = negative ? -(long long)n : (long long)n;
  return 1;
}

static int is(struct text t, const char *word) { return t.size == strlen(word) && !strncasecmp(t.data, word, t.size); }

static void answer(struct buffer *out, struct text *args, int n) {
  uint64_t hash = n > 1 ? digest(DIGEST_START, args[1].data, args[1].size) : 0;
  if (n == 2 && is(args[0], "GET")) {
    struct entry *e = *find(args[1].data, args[1].size, hash);
    if (!e) {
      put_text(out, "$-1\r\n");
      return;
    }
    put_number(out, '$', e->size);
    put(out, e->value, e->size);
    put_text(out, "\r\n");
  } else if (n == 3 && is(args[0], "SET")) {
    set(args[1].data, args[1].size, hash, args[2].data, args[2].size);
    put_text(out, "+OK\r\n");
  } else if (n == 2 && is(args[0], "INCR")) {
    struct entry *e = *find(args[1].data, args[1].size, hash);
    long long v = 0;
    char text[DIGITS], *end = text + DIGITS;
    if (e && (!number((struct text){e->value, e->size}, &v) || v == LLONG_MAX)) {
      put_text(out, "-ERR value is not an integer or out of range\r\n");
      return;
    }
    char *begin = decimal(end, ++v);
    set(args[1].data, args[1].size, hash, begin, (size_t)(end - begin));
    put_number(out, ':', v);
  } else if (n > 1 && is(args[0], "DEL")) {
    long long gone = 0;
    for (int i = 1; i < n; i++) {
      struct entry **at = find(args[i].data, args[i].size, digest(DIGEST_START, args[i].data, args[i].size)), *e = *at;
      if (e) {
        *at = e->next;
        free(e->value);
        free(e);
        entries--;
        gone++;
      }
    }
    put_number(out, ':', gone);
  } else if (n == 1 && is(args[0], "PING")) {
    put_text(out, "+PONG\r\n");
  } else {
    put_text(out, "-ERR unknown command or wrong number of arguments\r\n");
  }
}

// line takes a line, and returns 0 if it is not whole yet.
static int line(struct buffer *in, size_t *at, struct text *t) {
  char *end = memchr(in->data + *at, '\n', in->to - *at);
  if (!end)
    return 0;
  t->data = in->data + *at;
  t->size = (size_t)(end - t->data);
  *at += t->size + 1;
  if (t->size > 0 && t->data[t->size - 1] == '\r')
    t->size--;
  return 1;
}

// request takes a request and returns how many words it has: 0 if it is not whole yet, -1 if it is none.
static int request(struct buffer *in, struct text *args) {
  size_t at = in->from;
  struct text t;
  long long n, size;
  if (!line(in, &at, &t))
    return in->to - in->from > MAX_REQUEST ? -1 : 0;
  if (t.size == 0 || t.data[0] != '*') { // a word of its own, as PING
    args[0] = t;
    in->from = at;
    return 1;
  }
  if (!number((struct text){t.data + 1, t.size - 1}, &n) || n < 1 || n > MAX_ARGS)
    return -1;
  for (int i = 0; i < n; i++) {
    if (!line(in, &at, &t))
      return in->to - in->from > MAX_REQUEST ? -1 : 0;
    if (t.size < 2 || t.data[0] != '$' || !number((struct text){t.data + 1, t.size - 1}, &size) || size < 0 || size > MAX_REQUEST)
      return -1;
    if (in->to - at < (size_t)size + 2)
      return 0;
    args[i] = (struct text){in->data + at, (size_t)size};
    at += (size_t)size + 2;
  }
  in->from = at;
  return (int)n;
}

struct conn {
  struct buffer in, out;
};

static struct pollfd *fds;
static struct conn *conns; // of the descriptor at the same index
static int count, places;

static void add(int fd) {
  if (count == places) {
    places = places ? 2 * places : 64;
    fds = must(realloc(fds, (size_t)places * sizeof *fds));
    conns = must(realloc(conns, (size_t)places * sizeof *conns));
  }
  fds[count] = (struct pollfd){.fd = fd, .events = POLLIN};
  conns[count++] = (struct conn){0};
}

static void end(int i) {
  close(fds[i].fd);
  free(conns[i].in.data);
  free(conns[i].out.data);
  count--;
  fds[i] = fds[count];
  conns[i] = conns[count];
}

static void serve(int i) {
  struct conn *c = &conns[i];
  if (c->out.from == c->out.to) {
    char *to = room(&c->in, CHUNK);
    ssize_t n = recv(fds[i].fd, to, CHUNK, 0);
    if (n < 0 && errno == EAGAIN)
      return;
    if (n <= 0) {
      end(i);
      return;
    }
    c->in.to += (size_t)n;
    struct text args[MAX_ARGS];
    int words;
    while ((words = request(&c->in, args)) > 0)
      answer(&c->out, args, words);
    if (words < 0) {
      end(i);
      return;
    }
  }
  while (c->out.from < c->out.to) {
    ssize_t n = send(fds[i].fd, c->out.data + c->out.from, c->out.to - c->out.from, 0);
    if (n < 0 && errno == EAGAIN)
      break;
    if (n < 0) {
      end(i);
      return;
    }
    c->out.from += (size_t)n;
  }
  fds[i].events = c->out.from < c->out.to ? POLLOUT : POLLIN;
}

int main(int argc, char **argv) {
  int listener = argc > 1 ? atoi(argv[1]) : 3;
  grow();
  add(listener);
  say("listening\n");
  for (;;) {
    if (poll(fds, (nfds_t)count, -1) < 0) {
      perror("poll");
      return 1;
    }
    for (int i = count - 1; i > 0; i--)
      if (fds[i].revents)
        serve(i);
    if (fds[0].revents) {
      int fd = accept4(listener, NULL, NULL, SOCK_NONBLOCK);
      if (fd >= 0)
        add(fd);
      else if (errno != EAGAIN) {
        perror("accept");
        return 1;
      }
    }
  }
}
