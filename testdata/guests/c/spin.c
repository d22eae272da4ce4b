// A loop without end and without a call.
#include "guest.h"

static volatile uint64_t turns;

int main(void) {
  say("spinning\n");
  for (;;)
    turns++;
}
