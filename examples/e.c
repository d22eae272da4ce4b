// Prints the digits of e, fifty a line.
//
// Usage: e [DIGITS]: 10,000 by default. It keeps e - 2 in mixed radix, the digit at place i counting 1/i!, where all
// digits are 1. Multiplied by ten, the carry out of the last place is the next decimal digit.
#include <stdio.h>
#include <stdlib.h>

int main(int argc, char **argv) {
  int digits = argc > 1 ? atoi(argv[1]) : 10000;
  int places = 30; // enough that 1/places! is below the last digit
  for (double left = digits + 10, power = 1; left > 0; places++)
    for (power *= places; power >= 10; power /= 10)
      left--;
  int *radix = malloc(sizeof(int) * (size_t)(places + 1));
  if (digits < 1 || !radix)
    return 1;
  for (int i = 2; i <= places; i++)
    radix[i] = 1;
  setvbuf(stdout, NULL, _IOLBF, 0);
  printf("2.\n");
  for (int n = 1; n <= digits; n++) {
    int carry = 0;
    for (int i = places; i >= 2; i--) {
      int x = radix[i] * 10 + carry;
      radix[i] = x % i;
      carry = x / i;
    }
    putchar('0' + carry);
    if (n % 50 == 0 || n == digits)
      putchar('\n');
  }
  free(radix);
  return 0;
}
