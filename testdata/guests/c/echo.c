// Copies stdin to stdout line by line, each line numbered; ends at end of file.
#include "guest.h"

int main(void) {
  char line[4096];
  long n = 0;
  while (fgets(line, sizeof line, stdin))
    say("%ld %s", ++n, line);
  return ferror(stdin) ? 1 : 0;
}
