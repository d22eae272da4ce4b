// One of three banks that transfer money to each other over TCP. Each trusts the connections: nothing is confirmed, and
// nothing is sent again.
//
// Usage: bank SELF PORT PORT PORT. SELF is its number, 0 to 2; it listens on descriptor 3 and dials the ports of the
// others on 127.0.0.1. Who dials and says "s" lets it stop. When it has stopped it tells the others; when they have stopped
// too it prints what it has.
//
// LDFLAGS: -Wl,-z,stack-size=1048576
#include "guest.h"
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

// WasmEdge's functions, which the C library does not know.
struct vector {
  const void *data;
  size_t size;
};
#define IMPORT(name) __attribute__((import_module("wasi_snapshot_preview1"), import_name(#name))) int32_t name
IMPORT(sock_open)(int32_t family, int32_t type, int32_t *fd);
IMPORT(sock_connect)(int32_t fd, struct vector *address, uint32_t port);

enum { BANKS = 3, IPV4 = 1, STREAM = 2, START = 1000000 };

// A message is a transfer or, if its amount is 0, the last one. It carries how many there were and what they came to.
struct message {
  uint32_t amount, number;
  uint64_t sum;
};

struct peer {
  int dialled, accepted; // descriptors; -1 if there is none
  struct message out, in;
  size_t have; // bytes of the next message in buffer
  char buffer[sizeof(struct message)];
  int stopped;
};

static struct peer peers[BANKS];
static int self, stopping;
static int64_t balance = START;

static void fail(const char *what, int peer) {
  say("bank %d: %s of %d: %s\n", self, what, peer, strerror(errno));
  exit(1);
}

static void dial(int peer, uint32_t port) {
  static const unsigned char loopback[4] = {127, 0, 0, 1};
  for (;;) {
    int32_t fd;
    if ((errno = sock_open(IPV4, STREAM, &fd)))
      fail("open", peer);
    errno = sock_connect(fd, &(struct vector){loopback, sizeof loopback}, port);
    if (!errno) {
      char name = (char)('0' + self);
      if (send(fd, &name, 1, 0) != 1)
        fail("send", peer);
      peers[peer].dialled = fd;
      return;
    }
    if (errno != ECONNREFUSED)
      fail("connect", peer);
    close(fd); // the other one has not begun
    nanosleep(&(struct timespec){.tv_nsec = 10000000}, NULL);
  }
}

static void tell(int peer, uint32_t amount) {
  struct message *m = &peers[peer].out;
  m->amount = amount;
  m->number++;
  m->sum += amount;
  balance -= amount;
  for (size_t at = 0; at < sizeof *m;) {
    ssize_t n = send(peers[peer].dialled, (char *)m + at, sizeof *m - at, 0);
    if (n < 0)
      fail("send", peer);
    at += (size_t)n;
  }
}

static void hear(int peer) {
  struct peer *p = &peers[peer];
  for (;;) {
    ssize_t n = recv(p->accepted, p->buffer + p->have, sizeof p->buffer - p->have, 0);
    if (n < 0 && errno == EAGAIN)
      return;
    if (n <= 0)
      fail("recv", peer);
    if ((p->have += (size_t)n) < sizeof p->buffer)
      continue;
    struct message m;
    memcpy(&m, p->buffer, sizeof m);
    p->have = 0;
    p->in.number++;
    p->in.sum += m.amount;
    balance += m.amount;
    if (m.number != p->in.number || m.sum != p->in.sum) {
      say("bank %d: transfer %u of %d comes as number %u\n", self, m.number, peer, p->in.number);
      exit(2);
    }
    if ((p->stopped = m.amount == 0))
      return;
  }
}

// greet takes a connection and hears who it is.
static void greet(void) {
  char name;
  int fd = accept4(3, NULL, NULL, 0);
  if (fd < 0)
    fail("accept", self);
  if (recv(fd, &name, 1, 0) != 1) {
    close(fd);
    return;
  }
  if (name == 's') {
    stopping = 1;
    close(fd);
    return;
  }
  if (fcntl(fd, F_SETFL, O_NONBLOCK))
    fail("fcntl", self);
  peers[name - '0'].accepted = fd;
}

int main(int argc, char **argv) {
  if (argc != 2 + BANKS)
    return 64;
  self = atoi(argv[1]);
  for (int i = 0; i < BANKS; i++)
    peers[i].dialled = peers[i].accepted = -1;
  say("bank %d opens\n", self);
  for (int i = 0; i < BANKS; i++)
    if (i != self)
      dial(i, (uint32_t)atoi(argv[2 + i]));
  int told = 0, open = BANKS - 1;
  while (!told || open > 0) {
    struct pollfd fds[1 + BANKS];
    int who[1 + BANKS], n = 0;
    fds[n++] = (struct pollfd){.fd = 3, .events = POLLIN};
    open = 0;
    for (int i = 0; i < BANKS; i++) {
      if (i == self)
        continue;
      open += !peers[i].stopped;
      if (peers[i].accepted >= 0 && !peers[i].stopped) {
        who[n] = i;
        fds[n++] = (struct pollfd){.fd = peers[i].accepted, .events = POLLIN};
      }
    }
    if (open == 0 && told)
      break;
    if (poll(fds, (nfds_t)n, 1) < 0)
      fail("poll", self);
    for (int i = 1; i < n; i++)
      if (fds[i].revents)
        hear(who[i]);
    if (fds[0].revents)
      greet();
    unsigned char dice[2];
    if (getentropy(dice, sizeof dice))
      fail("random", self);
    for (int i = 0; i < BANKS; i++)
      if (i != self && !told && (stopping || dice[0] % BANKS != (unsigned)i))
        tell(i, stopping ? 0 : 1u + dice[1]);
    told = told || stopping;
  }
  int64_t sent = 0, received = 0;
  for (int i = 0; i < BANKS; i++) {
    sent += peers[i].out.number;
    received += peers[i].in.number;
  }
  say("bank %d has %lld, sent %lld, received %lld\n", self, (long long)balance, (long long)sent, (long long)received);
}
