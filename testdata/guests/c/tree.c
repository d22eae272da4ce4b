// Recursion with malloc and free: an unbalanced search tree and full binary
// trees, with some always alive so that the heap has a history.
#include "guest.h"

typedef struct node {
  struct node *left, *right;
  uint64_t key;
} node;

static node *insert(node *n, uint64_t key) {
  if (!n) {
    n = malloc(sizeof *n);
    *n = (node){NULL, NULL, key};
  } else if (key < n->key) {
    n->left = insert(n->left, key);
  } else if (key > n->key) {
    n->right = insert(n->right, key);
  }
  return n;
}

static uint64_t walk(const node *n, uint64_t h) {
  if (!n)
    return h;
  h = walk(n->left, h);
  h = digest(h, &n->key, sizeof n->key);
  return walk(n->right, h);
}

static int height(const node *n) {
  if (!n)
    return 0;
  int l = height(n->left), r = height(n->right);
  return 1 + (l > r ? l : r);
}

static void release(node *n) {
  if (!n)
    return;
  release(n->left);
  release(n->right);
  free(n);
}

static node *full(int depth, uint64_t *seed) {
  node *n = malloc(sizeof *n);
  n->key = next(seed);
  n->left = depth ? full(depth - 1, seed) : NULL;
  n->right = depth ? full(depth - 1, seed) : NULL;
  return n;
}

int main(int argc, char **argv) {
  long rounds = setup(argc, argv, 900);
  uint64_t seed = 7;
  node *kept = NULL;
  for (long round = 0; round < rounds; round++) {
    node *search = NULL;
    for (int i = 0; i < 4000; i++)
      search = insert(search, next(&seed) >> 40);
    node *old = kept;
    kept = full(10 + round % 4, &seed);
    release(old);
    say("%ld height=%d search=%016llx full=%016llx\n", round, height(search),
        (unsigned long long)walk(search, DIGEST_START), (unsigned long long)walk(kept, DIGEST_START));
    release(search);
  }
  release(kept);
  return 0;
}
