// Files in a preopened directory: write, append, seek, read, pread, pwrite,
// truncate, rename, link, symlink, unlink, mkdir, readdir, stat.
//
// Usage: files [ROUNDS [DIR]]. Two descriptors stay open from the first round
// to the last, so that there always is an offset and an append mode to keep.
// At the end the directory is left with log, data and the last round's files.
#include "guest.h"
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

static const char *directory = "/";

static const char *path(const char *name) {
  static char buffers[4][256];
  static int which;
  char *b = buffers[which++ & 3];
  snprintf(b, sizeof buffers[0], "%s/%s", strcmp(directory, "/") ? directory : "", name);
  return b;
}

static void fail(const char *what) {
  say("%s: %s\n", what, strerror(errno));
  exit(1);
}

static int compare(const void *a, const void *b) { return strcmp(a, b); }

// listing is the digest of the sorted names below dir, and of the sizes of files.
static uint64_t listing(const char *dir, int *count) {
  static char names[256][64];
  DIR *d = opendir(dir);
  if (!d)
    fail("opendir");
  int n = 0;
  for (struct dirent *e; (e = readdir(d)) && n < 256;)
    if (strcmp(e->d_name, ".") && strcmp(e->d_name, ".."))
      snprintf(names[n++], sizeof names[0], "%s", e->d_name);
  closedir(d);
  qsort(names, n, sizeof names[0], compare);
  uint64_t h = DIGEST_START;
  for (int i = 0; i < n; i++) {
    char full[512];
    struct stat st;
    snprintf(full, sizeof full, "%s/%s", dir, names[i]);
    if (lstat(full, &st))
      fail("lstat");
    int64_t size = S_ISREG(st.st_mode) ? st.st_size : -1;
    h = digest(h, names[i], strlen(names[i]));
    h = digest(h, &size, sizeof size);
  }
  *count = n;
  return h;
}

int main(int argc, char **argv) {
  long rounds = argc > 1 ? strtol(argv[1], NULL, 10) : 1500;
  if (argc > 2)
    directory = argv[2];
  uint64_t seed = 37;
  int log = open(path("log"), O_CREAT | O_TRUNC | O_RDWR | O_APPEND, 0644);
  int data = open(path("data"), O_CREAT | O_TRUNC | O_RDWR, 0644);
  if (log < 0 || data < 0)
    fail("open");
  off_t position = 0;
  for (long round = 0; round < rounds; round++) {
    uint64_t h = DIGEST_START;
    char line[64], block[512];

    int n = snprintf(line, sizeof line, "round %ld: %016llx\n", round, (unsigned long long)next(&seed));
    if (write(log, line, n) != n)
      fail("append");
    if (lseek(log, -n, SEEK_END) < 0 || read(log, block, n) != n)
      fail("read back");
    h = digest(h, block, n);

    // data is written where its offset stands; the offset is checked each round.
    for (int i = 0; i < 512; i++)
      block[i] = (char)next(&seed);
    if (lseek(data, 0, SEEK_CUR) != position)
      fail("offset");
    if (write(data, block, 300) != 300)
      fail("write");
    position += 300;
    if (pwrite(data, block, 100, (off_t)(next(&seed) % (uint64_t)position)) != 100)
      fail("pwrite");
    if (pread(data, block, 200, (off_t)(next(&seed) % (uint64_t)position)) < 0)
      fail("pread");
    h = digest(h, block, 200);
    if (round % 50 == 49) {
      position = lseek(data, position / 3, SEEK_SET);
      if (ftruncate(data, position + 1000))
        fail("ftruncate");
    }

    FILE *f = fopen(path("new"), "w+");
    if (!f)
      fail("fopen");
    for (int i = 0; i < 40; i++)
      fprintf(f, "%ld %d %llx\n", round, i, (unsigned long long)next(&seed));
    rewind(f);
    while (fgets(line, sizeof line, f))
      h = digest(h, line, strlen(line));
    fclose(f);

    char name[32], other[32], folder[32];
    snprintf(name, sizeof name, "file-%ld", round % 8);
    snprintf(other, sizeof other, "link-%ld", round % 8);
    snprintf(folder, sizeof folder, "dir-%ld", round % 4);
    if (rename(path("new"), path(name)))
      fail("rename");
    if (unlink(path(other)) && errno != ENOENT)
      fail("unlink");
    if (round % 2 ? link(path(name), path(other)) : symlink(name, path(other)))
      fail("link");
    f = fopen(path(other), "r");
    if (!f)
      fail("open link");
    while (fgets(line, sizeof line, f))
      h = digest(h, line, 3);
    fclose(f);
    if (rmdir(path(folder)) && errno != ENOENT)
      fail("rmdir");
    if (round % 3 && mkdir(path(folder), 0755))
      fail("mkdir");

    struct stat st;
    if (fstat(log, &st))
      fail("fstat");
    int count;
    uint64_t names = listing(directory, &count);
    say("%ld log=%lld position=%lld names=%d,%016llx %016llx\n", round, (long long)st.st_size, (long long)position, count,
        (unsigned long long)names, (unsigned long long)h);
  }
  uint64_t h = DIGEST_START;
  char block[4096];
  int fds[] = {log, data};
  for (int i = 0; i < 2; i++) {
    if (lseek(fds[i], 0, SEEK_SET))
      fail("lseek");
    for (ssize_t n; (n = read(fds[i], block, sizeof block)) != 0;) {
      if (n < 0)
        fail("read");
      h = digest(h, block, n);
    }
    close(fds[i]);
  }
  say("digest %016llx\n", (unsigned long long)h);
  return 0;
}
