// Does what standard input says, a command a line, and answers each with a
// line: so a test decides when the guest stands where.
//
// Slots 0 to 9 hold descriptors. FLAGS are of r (read), w (write), a (append),
// c (create), t (truncate).
//
//   open SLOT FLAGS PATH    read SLOT N       write SLOT TEXT    seek SLOT N
//   tell SLOT               close SLOT        size SLOT          rename PATH PATH
//   unlink PATH             opendir PATH      readdir            closedir
//   clock                   accept SLOT FD    fill MIB           exit STATUS
#include "guest.h"
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

static void answer(const char *what, long long result) {
  if (result < 0)
    say("%s: %s\n", what, strerror(errno));
  else
    say("%s: %lld\n", what, result);
}

static long long nanoseconds(clockid_t clock) {
  struct timespec t;
  clock_gettime(clock, &t);
  return (long long)t.tv_sec * 1000000000 + t.tv_nsec;
}

int main(void) {
  int slots[10];
  DIR *dir = NULL;
  char line[512];
  while (fgets(line, sizeof line, stdin)) {
    line[strcspn(line, "\n")] = 0;
    char *command = strtok(line, " "), *first = strtok(NULL, " "), *rest = strtok(NULL, "");
    if (!command)
      continue;
    int slot = first && *first >= '0' && *first <= '9' && !first[1] ? *first - '0' : 0;
    if (!strcmp(command, "open") && rest) {
      char *flags = strtok(rest, " "), *path = strtok(NULL, "");
      int o = strchr(flags, 'w') || strchr(flags, 'a') ? (strchr(flags, 'r') ? O_RDWR : O_WRONLY) : O_RDONLY;
      o |= (strchr(flags, 'a') ? O_APPEND : 0) | (strchr(flags, 'c') ? O_CREAT : 0) | (strchr(flags, 't') ? O_TRUNC : 0);
      slots[slot] = open(path, o, 0644);
      answer("open", slots[slot] < 0 ? -1 : 0);
    } else if (!strcmp(command, "read") && rest) {
      static char bytes[4096];
      long n = strtol(rest, NULL, 10);
      ssize_t got = read(slots[slot], bytes, n < (long)sizeof bytes ? (size_t)n : sizeof bytes);
      if (got < 0)
        answer("read", got);
      else
        say("read: %.*s\n", (int)got, bytes);
    } else if (!strcmp(command, "write") && rest) {
      answer("write", write(slots[slot], rest, strlen(rest)));
    } else if (!strcmp(command, "seek") && rest) {
      answer("seek", lseek(slots[slot], strtol(rest, NULL, 10), SEEK_SET));
    } else if (!strcmp(command, "tell")) {
      answer("tell", lseek(slots[slot], 0, SEEK_CUR));
    } else if (!strcmp(command, "size")) {
      struct stat st;
      answer("size", fstat(slots[slot], &st) ? -1 : st.st_size);
    } else if (!strcmp(command, "close")) {
      answer("close", close(slots[slot]));
    } else if (!strcmp(command, "rename") && rest) {
      answer("rename", rename(first, rest));
    } else if (!strcmp(command, "unlink") && first) {
      answer("unlink", unlink(first));
    } else if (!strcmp(command, "opendir") && first) {
      dir = opendir(first);
      answer("opendir", dir ? 0 : -1);
    } else if (!strcmp(command, "readdir")) {
      errno = 0;
      struct dirent *e = readdir(dir);
      if (!e && errno)
        answer("readdir", -1);
      else
        say("readdir: %s\n", e ? e->d_name : "end");
    } else if (!strcmp(command, "closedir")) {
      answer("closedir", closedir(dir));
    } else if (!strcmp(command, "clock")) {
      say("clock: %lld %lld\n", nanoseconds(CLOCK_REALTIME), nanoseconds(CLOCK_MONOTONIC));
    } else if (!strcmp(command, "accept") && rest) {
      slots[slot] = accept((int)strtol(rest, NULL, 10), NULL, NULL);
      answer("accept", slots[slot] < 0 ? -1 : 0);
    } else if (!strcmp(command, "fill") && first) {
      // So many MiB that differ from one fill to the next.
      static uint64_t seed = 41;
      static uint64_t *filled;
      static size_t words;
      size_t want = strtoul(first, NULL, 10) << 17;
      if (words != want)
        filled = realloc(filled, (words = want) * 8);
      uint64_t h = DIGEST_START;
      for (size_t i = 0; i < words; i++)
        h ^= filled[i] = next(&seed);
      say("fill: %016llx\n", (unsigned long long)h);
    } else if (!strcmp(command, "exit") && first) {
      return (int)strtol(first, NULL, 10);
    } else {
      say("what?\n");
    }
  }
  return 0;
}
