// A linked list: built, reversed, merge-sorted, filtered and freed.
#include "guest.h"

typedef struct cell {
  struct cell *next;
  uint32_t value;
} cell;

static cell *reverse(cell *l) {
  cell *out = NULL;
  while (l) {
    cell *rest = l->next;
    l->next = out;
    out = l;
    l = rest;
  }
  return out;
}

static cell *merge(cell *a, cell *b) {
  cell head, *tail = &head;
  while (a && b) {
    cell **least = a->value <= b->value ? &a : &b;
    tail->next = *least;
    tail = *least;
    *least = tail->next;
  }
  tail->next = a ? a : b;
  return head.next;
}

static cell *sort(cell *l) {
  if (!l || !l->next)
    return l;
  cell *slow = l, *fast = l->next;
  while (fast && fast->next) {
    slow = slow->next;
    fast = fast->next->next;
  }
  cell *half = slow->next;
  slow->next = NULL;
  return merge(sort(l), sort(half));
}

static uint64_t walk(const cell *l) {
  uint64_t h = DIGEST_START;
  for (; l; l = l->next)
    h = digest(h, &l->value, sizeof l->value);
  return h;
}

int main(int argc, char **argv) {
  long rounds = setup(argc, argv, 330);
  uint64_t seed = 5;
  cell *l = NULL;
  long length = 0;
  for (long round = 0; round < rounds; round++) {
    while (length < 20000) {
      cell *c = malloc(sizeof *c);
      c->value = (uint32_t)next(&seed);
      c->next = l;
      l = c;
      length++;
    }
    l = reverse(l);
    uint64_t before = walk(l);
    l = sort(l);
    uint64_t after = walk(l);
    // Every cell whose value has a certain remainder goes, so that the heap
    // becomes a patchwork.
    for (cell **at = &l; *at;) {
      cell *c = *at;
      if (c->value % 7 == (uint32_t)round % 7) {
        *at = c->next;
        free(c);
        length--;
      } else {
        at = &c->next;
      }
    }
    say("%ld before=%016llx after=%016llx left=%ld\n", round, (unsigned long long)before, (unsigned long long)after, length);
  }
  while (l) {
    cell *rest = l->next;
    free(l);
    l = rest;
  }
  return 0;
}
