// A key-value server that keeps everything in its memory and nothing anywhere else.
//
// Usage: keyvalue [LISTENER]. LISTENER is the descriptor of the listening socket, 3 by default. A command is a line, an
// answer is what Redis would give:
//
//   PING             +PONG
//   SET KEY VALUE    +OK
//   GET KEY          $LENGTH and the value, or $-1
//   INCR KEY         :NUMBER, one more than before
//   DBSIZE           :NUMBER of keys
//
// The C library has what it polls on the stack: some 160 bytes for each connection.
// LDFLAGS: -Wl,-z,stack-size=1048576
#include "guest.h"
#include <errno.h>
#include <poll.h>
#include <sys/socket.h>
#include <unistd.h>

enum { IN = 4096 };

struct conn {
  size_t have; // bytes of in: the beginning of a command
  char in[IN];
  char *out; // answers
  size_t from, to, room;
};

static struct pollfd *fds;
static struct conn **conns; // of the descriptor at the same index; none for the listener
static int count, room;

static void *need(void *p) {
  if (!p)
    abort();
  return p;
}

struct entry {
  char *key, *value; // a free one has no key
};

static struct entry *table;
static size_t size, used; // size is a power of two

static struct entry *find(struct entry *t, size_t n, const char *key) {
  size_t i = digest(DIGEST_START, key, strlen(key)) & (n - 1);
  while (t[i].key && strcmp(t[i].key, key) != 0)
    i = (i + 1) & (n - 1);
  return &t[i];
}

static struct entry *get(const char *key) {
  struct entry *e = size ? find(table, size, key) : NULL;
  return e && e->key ? e : NULL;
}

static void set(const char *key, const char *value) {
  struct entry *e = get(key);
  if (!e) {
    if (4 * (used + 1) > 3 * size) {
      size_t n = size ? 2 * size : 64;
      struct entry *t = need(calloc(n, sizeof *t));
      for (size_t i = 0; i < size; i++)
        if (table[i].key)
          *find(t, n, table[i].key) = table[i];
      free(table);
      table = t;
      size = n;
    }
    e = find(table, size, key);
    e->key = need(strdup(key));
    used++;
  }
  char *old = e->value;
  e->value = need(strdup(value));
  free(old);
}

__attribute__((format(printf, 2, 3))) static void answer(struct conn *c, const char *format, ...) {
  char text[2 * IN];
  va_list args;
  va_start(args, format);
  int n = vsnprintf(text, sizeof text, format, args);
  va_end(args);
  if (c->to + (size_t)n > c->room) {
    c->room = 2 * (c->to + (size_t)n);
    c->out = need(realloc(c->out, c->room));
  }
  memcpy(c->out + c->to, text, (size_t)n);
  c->to += (size_t)n;
}

static void obey(struct conn *c, char *line) {
  char *rest = line, *command = strsep(&rest, " "), *key = rest ? strsep(&rest, " ") : NULL, *value = rest;
  if (strcasecmp(command, "PING") == 0) {
    answer(c, "+PONG\r\n");
  } else if (strcasecmp(command, "DBSIZE") == 0) {
    answer(c, ":%zu\r\n", used);
  } else if (strcasecmp(command, "SET") == 0 && value) {
    set(key, value);
    answer(c, "+OK\r\n");
  } else if (strcasecmp(command, "GET") == 0 && key) {
    struct entry *e = get(key);
    if (e)
      answer(c, "$%zu\r\n%s\r\n", strlen(e->value), e->value);
    else
      answer(c, "$-1\r\n");
  } else if (strcasecmp(command, "INCR") == 0 && key) {
    struct entry *e = get(key);
    char text[24];
    snprintf(text, sizeof text, "%lld", (e ? strtoll(e->value, NULL, 10) : 0) + 1);
    set(key, text);
    answer(c, ":%s\r\n", text);
  } else {
    answer(c, "-ERR unknown command, or not enough of it\r\n");
  }
}

static void end(int i) {
  close(fds[i].fd);
  free(conns[i]->out);
  free(conns[i]);
  count--;
  fds[i] = fds[count];
  conns[i] = conns[count];
}

// take obeys what has come. It returns whether the connection goes on.
static int take(struct conn *c, int fd) {
  ssize_t n = recv(fd, c->in + c->have, IN - c->have, 0);
  if (n < 0)
    return errno == EAGAIN;
  if (n == 0)
    return 0;
  c->have += (size_t)n;
  char *line = c->in, *last = c->in + c->have, *stop;
  while ((stop = memchr(line, '\n', (size_t)(last - line)))) {
    *stop = 0;
    if (stop > line && stop[-1] == '\r')
      stop[-1] = 0;
    if (*line)
      obey(c, line);
    line = stop + 1;
  }
  c->have = (size_t)(last - line);
  memmove(c->in, line, c->have);
  return c->have < IN; // a longer command is none
}

// give sends what is to be sent. It returns whether the connection goes on.
static int give(struct conn *c, int fd) {
  ssize_t n = send(fd, c->out + c->from, c->to - c->from, 0);
  if (n < 0)
    return errno == EAGAIN;
  c->from += (size_t)n;
  if (c->from == c->to)
    c->from = c->to = 0;
  return 1;
}

static void add(int fd, struct conn *c) {
  if (count == room) {
    room = room ? 2 * room : 64;
    fds = need(realloc(fds, (size_t)room * sizeof *fds));
    conns = need(realloc(conns, (size_t)room * sizeof *conns));
  }
  fds[count] = (struct pollfd){.fd = fd, .events = POLLIN};
  conns[count++] = c;
}

int main(int argc, char **argv) {
  int listener = argc > 1 ? atoi(argv[1]) : 3;
  add(listener, NULL);
  say("listening\n");
  for (;;) {
    if (poll(fds, (nfds_t)count, -1) < 0) {
      perror("poll");
      return 1;
    }
    for (int i = count - 1; i > 0; i--) {
      if (!fds[i].revents)
        continue;
      struct conn *c = conns[i];
      int well = c->from < c->to || take(c, fds[i].fd);
      if (well && c->from < c->to)
        well = give(c, fds[i].fd);
      if (!well) {
        end(i);
        continue;
      }
      fds[i].events = c->from < c->to ? POLLOUT : POLLIN;
    }
    if (fds[0].revents) {
      int fd = accept4(listener, NULL, NULL, SOCK_NONBLOCK);
      if (fd < 0 && errno != EAGAIN) {
        perror("accept");
        return 1;
      }
      if (fd >= 0)
        add(fd, need(calloc(1, sizeof(struct conn))));
    }
  }
}
