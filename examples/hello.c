// Says hello, and how often it has been asked to.
//
// Usage: hello [NAME]. It reads names from its standard input, a line each, after the one that it is given. The count is
// an ordinary variable: it goes on from where it was when the program is killed.
#include <stdio.h>
#include <string.h>

int main(int argc, char **argv) {
  static int greeted;
  char name[100];
  setvbuf(stdout, NULL, _IOLBF, 0);
  printf("Hello, %s! (%d)\n", argc > 1 ? argv[1] : "world", ++greeted);
  while (fgets(name, sizeof name, stdin)) {
    name[strcspn(name, "\n")] = 0;
    printf("Hello, %s! (%d)\n", name, ++greeted);
  }
  return 0;
}
