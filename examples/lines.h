// A server of lines, shared by the examples chat and kv: it waits in poll for a listening socket and any number of
// clients, and hands each line that a client sends to a function. All it holds is in ordinary memory.
//
// The C library has what it polls on the stack: some 160 bytes for each client.
#include <errno.h>
#include <poll.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

enum { LISTENER = 3, CLIENTS = 1000, LINE = 1000 };

struct client {
  char in[LINE + 1], name[32];
  size_t length;   // of what has come of a line
  char *out;       // what is still to be sent
  size_t from, to; // of out
  int over;        // it is to be closed when all is sent
};

static struct pollfd polled[CLIENTS + 1];
static struct client *clients[CLIENTS + 1]; // of the descriptor at the same index; the first is the listener's
static int count = 1;

static void came(struct client *c);             // a client has come
static void said(struct client *c, char *line); // it has sent a line
static void left(struct client *c);             // it has gone

// tell sends a text to a client; it is kept in memory until the client takes it.
static void tell(struct client *c, const char *format, ...) {
  char text[2 * LINE];
  va_list args;
  va_start(args, format);
  int n = vsnprintf(text, sizeof text, format, args);
  va_end(args);
  if (n < 0 || (size_t)n >= sizeof text)
    return;
  if (c->to - c->from > 1 << 20) { // it does not read: it is not waited for
    c->over = 1;
    return;
  }
  if (c->from) {
    memmove(c->out, c->out + c->from, c->to - c->from);
    c->to -= c->from;
    c->from = 0;
  }
  if (!(c->out = realloc(c->out, c->to + (size_t)n)))
    abort();
  memcpy(c->out + c->to, text, (size_t)n);
  c->to += (size_t)n;
}

// receive reads what has come, and returns 0 when the client has gone.
static int receive(int fd, struct client *c) {
  ssize_t n = recv(fd, c->in + c->length, LINE - c->length, 0);
  if (n <= 0)
    return n < 0 && errno == EAGAIN;
  c->length += (size_t)n;
  char *begin = c->in, *end;
  while ((end = memchr(begin, '\n', c->length - (size_t)(begin - c->in)))) {
    *end = 0;
    begin[strcspn(begin, "\r")] = 0;
    said(c, begin);
    begin = end + 1;
  }
  c->length -= (size_t)(begin - c->in);
  memmove(c->in, begin, c->length);
  return c->length < LINE; // no line is that long
}

// transmit sends what the client takes, and returns 0 when it has gone.
static int transmit(int fd, struct client *c) {
  while (c->from < c->to) {
    ssize_t n = send(fd, c->out + c->from, c->to - c->from, 0);
    if (n < 0)
      return errno == EAGAIN;
    c->from += (size_t)n;
  }
  return !c->over;
}

static void drop(int i) {
  struct client *c = clients[i];
  close(polled[i].fd);
  count--;
  polled[i] = polled[count];
  clients[i] = clients[count];
  left(c);
  free(c->out);
  free(c);
}

static void take(void) {
  int fd = accept4(LISTENER, NULL, NULL, SOCK_NONBLOCK);
  if (fd < 0)
    return;
  struct client *c = calloc(1, sizeof *c);
  if (!c || count > CLIENTS) {
    close(fd);
    free(c);
    return;
  }
  polled[count].fd = fd;
  clients[count++] = c;
  came(c);
}

static int serve_lines(void) {
  polled[0].fd = LISTENER;
  for (;;) {
    for (int i = 0; i < count; i++)
      polled[i].events = (short)(i && clients[i]->from < clients[i]->to ? POLLIN | POLLOUT : POLLIN);
    if (poll(polled, (nfds_t)count, -1) < 0 || polled[0].revents & POLLNVAL) {
      fprintf(stderr, "there is no listening socket\n");
      return 1;
    }
    // What one client says may be for all, so that all have received before any is served.
    for (int i = count - 1; i > 0; i--)
      if (polled[i].revents & ~POLLOUT && !receive(polled[i].fd, clients[i]))
        drop(i);
    for (int i = count - 1; i > 0; i--)
      if (!transmit(polled[i].fd, clients[i]))
        drop(i);
    if (polled[0].revents)
      take();
  }
}
