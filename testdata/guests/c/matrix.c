// Matrix products in double, float and int32; the results are printed bit for bit.
#include "guest.h"

enum { N = 64 };
static double a[N][N], b[N][N], c[N][N];
static float f[N][N], g[N][N];
static int32_t p[N][N], q[N][N], r[N][N];

int main(int argc, char **argv) {
  long rounds = setup(argc, argv, 600);
  uint64_t seed = 1;
  for (int i = 0; i < N; i++)
    for (int j = 0; j < N; j++) {
      a[i][j] = (double)(next(&seed) >> 11) / 9007199254740992.0 - 0.5;
      b[i][j] = (double)(next(&seed) >> 11) / 9007199254740992.0 - 0.5;
      f[i][j] = (float)a[i][j];
      p[i][j] = (int32_t)next(&seed);
      q[i][j] = (int32_t)next(&seed);
    }
  for (long round = 0; round < rounds; round++) {
    for (int i = 0; i < N; i++)
      for (int j = 0; j < N; j++) {
        double sum = 0;
        float small = 0;
        uint32_t whole = 0;
        for (int k = 0; k < N; k++) {
          sum += a[i][k] * b[k][j];
          small += f[i][k] * f[j][k];
          whole += (uint32_t)p[i][k] * (uint32_t)q[k][j];
        }
        c[i][j] = sum;
        g[i][j] = small;
        r[i][j] = (int32_t)whole;
      }
    double trace = 0;
    for (int i = 0; i < N; i++)
      trace += c[i][i];
    // The results feed the next round, scaled so that they stay in range.
    for (int i = 0; i < N; i++)
      for (int j = 0; j < N; j++) {
        a[i][j] = c[i][j] * 0.25 + b[j][i] * 0.5;
        f[i][j] = g[i][j] * 0.125f + 0.01f;
        p[i][j] = r[i][j];
      }
    uint64_t h = digest(DIGEST_START, c, sizeof c);
    h = digest(h, g, sizeof g);
    h = digest(h, r, sizeof r);
    say("%ld trace=%a %016llx\n", round, trace, (unsigned long long)h);
  }
  return 0;
}
