// Exits with the status in argv[1] (default 0).
#include "guest.h"

int main(int argc, char **argv) {
  int status = argc > 1 ? atoi(argv[1]) : 0;
  say("exit %d\n", status);
  exit(status);
}
