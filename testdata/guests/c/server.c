// Echoes what its clients send, any number of connections at once, waiting in poll.
//
// Usage: server [LISTENER [BUFFER]]. LISTENER is the descriptor of the listening socket, 3 by default; BUFFER how
// many bytes of a connection it holds at most, 16384 by default. It prints a line when it has begun and for each connection
// that ended otherwise than by its client's end.
//
// A client that sends without end gets no more than TURN buffers moved before the others have their turn.
//
// The C library has what it polls on the stack: some 160 bytes for each connection.
// LDFLAGS: -Wl,-z,stack-size=4194304
#include "guest.h"
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <sys/socket.h>
#include <unistd.h>

enum { TURN = 16 };

struct conn {
  char *buffer;
  size_t from, to; // what is still to be sent
  int ended;       // the client has
};

static struct pollfd *fds;
static struct conn *conns; // of the descriptor at the same index
static int count, room;
static size_t size = 16384;

static void add(int fd) {
  if (count == room) {
    room = room ? 2 * room : 64;
    fds = realloc(fds, room * sizeof *fds);
    conns = realloc(conns, room * sizeof *conns);
    if (!fds || !conns)
      abort();
  }
  fds[count] = (struct pollfd){.fd = fd, .events = POLLIN};
  conns[count] = (struct conn){0};
  count++;
}

static void end(int i, const char *why) {
  if (why)
    say("%d: %s: %s\n", fds[i].fd, why, strerror(errno));
  close(fds[i].fd);
  free(conns[i].buffer);
  count--;
  fds[i] = fds[count];
  conns[i] = conns[count];
}

// serve moves what can be moved in one turn, and returns whether the connection goes on.
static int serve(int i) {
  struct conn *c = &conns[i];
  int fd = fds[i].fd;
  for (int turn = 0; turn < TURN; turn++) {
    if (c->from == c->to && !c->ended) {
      if (!c->buffer && !(c->buffer = malloc(size)))
        abort();
      ssize_t n = recv(fd, c->buffer, size, 0);
      if (n < 0 && errno == EAGAIN)
        break;
      if (n < 0) {
        end(i, "recv");
        return 0;
      }
      c->ended = n == 0;
      c->from = 0;
      c->to = (size_t)n;
    }
    if (c->from == c->to) {
      end(i, NULL);
      return 0;
    }
    ssize_t n = send(fd, c->buffer + c->from, c->to - c->from, 0);
    if (n < 0 && errno == EAGAIN)
      break;
    if (n < 0) {
      end(i, "send");
      return 0;
    }
    c->from += (size_t)n;
    // One that sends less than it may is full, and one that receives less has nothing: the next call would say EAGAIN.
    if (c->from < c->to)
      break;
    if (c->to < size && !c->ended)
      break;
  }
  fds[i].events = c->from < c->to ? POLLOUT : POLLIN;
  if (c->from == c->to && count > 1000) {
    free(c->buffer); // an idle one holds nothing
    c->buffer = NULL;
  }
  return 1;
}

int main(int argc, char **argv) {
  int listener = argc > 1 ? atoi(argv[1]) : 3;
  if (argc > 2)
    size = (size_t)atol(argv[2]);
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
      if (fd < 0 && errno != EAGAIN) {
        perror("accept");
        return 1;
      }
      if (fd >= 0)
        add(fd);
    }
  }
}
