// Floating point with results printed bit for bit: planets, the Mandelbrot set,
// and rounding and conversion of every kind.
// CFLAGS: -mnontrapping-fptoint -ffp-contract=off
#include "guest.h"
#include <math.h>

typedef struct {
  double x[3], v[3], mass;
} body;

static body bodies[5] = {
    {{0, 0, 0}, {0, 0, 0}, 39.47841760435743},
    {{4.84143144246472090, -1.16032004402742839, -0.103622044471123109}, {0.606326392995832, 2.81198684491626, -0.02521836165988763}, 0.03769367487038949},
    {{8.34336671824457987, 4.12479856412430479, -0.403523417114321381}, {-1.01077434617879, 1.82566237123041, 0.008415761376584154}, 0.011286326131968767},
    {{12.8943695621391310, -15.1111514016986312, -0.223307578892655734}, {1.08279100644154, 0.868713018169608, -0.010832637401363636}, 0.0017237240570597112},
    {{15.3796971148509165, -25.9193146099879641, 0.179258772950371181}, {0.979090732243898, 0.594698998647676, -0.034755955504078104}, 0.0020336868699246304},
};

static void advance(double dt) {
  for (int i = 0; i < 5; i++)
    for (int j = i + 1; j < 5; j++) {
      double d[3], square = 0;
      for (int k = 0; k < 3; k++) {
        d[k] = bodies[i].x[k] - bodies[j].x[k];
        square += d[k] * d[k];
      }
      double pull = dt / (square * sqrt(square));
      for (int k = 0; k < 3; k++) {
        bodies[i].v[k] -= d[k] * bodies[j].mass * pull;
        bodies[j].v[k] += d[k] * bodies[i].mass * pull;
      }
    }
  for (int i = 0; i < 5; i++)
    for (int k = 0; k < 3; k++)
      bodies[i].x[k] += dt * bodies[i].v[k];
}

static double energy(void) {
  double e = 0;
  for (int i = 0; i < 5; i++) {
    for (int k = 0; k < 3; k++)
      e += 0.5 * bodies[i].mass * bodies[i].v[k] * bodies[i].v[k];
    for (int j = i + 1; j < 5; j++) {
      double square = 0;
      for (int k = 0; k < 3; k++)
        square += (bodies[i].x[k] - bodies[j].x[k]) * (bodies[i].x[k] - bodies[j].x[k]);
      e -= bodies[i].mass * bodies[j].mass / sqrt(square);
    }
  }
  return e;
}

static long mandelbrot(double cx, double cy, double width) {
  long total = 0;
  for (int py = 0; py < 32; py++)
    for (int px = 0; px < 32; px++) {
      double x0 = cx + width * (px / 32.0 - 0.5), y0 = cy + width * (py / 32.0 - 0.5), x = 0, y = 0;
      int i = 0;
      while (x * x + y * y <= 4 && i < 200) {
        double t = x * x - y * y + x0;
        y = 2 * x * y + y0;
        x = t;
        i++;
      }
      total += i;
    }
  return total;
}

static uint64_t conversions(uint64_t *seed) {
  uint64_t h = DIGEST_START;
  for (int i = 0; i < 500; i++) {
    uint64_t bits = next(seed);
    double d;
    memcpy(&d, &bits, 8);
    if (d != d) // the bits of a NaN that arithmetic makes are the engine's choice
      d = (double)(int64_t)bits;
    float f = (float)d;
    double out[] = {floor(d), ceil(d), trunc(d), rint(d), fabs(d), copysign(d, -f), sqrt(fabs(d)), f};
    int64_t whole[] = {(int32_t)fmin(fmax(d, -2e9), 2e9), (int64_t)fmin(fmax(d, -9e18), 9e18), (int64_t)(uint64_t)fmin(fabs(d), 9e18), (int64_t)bits % 1000};
    float back[] = {(float)(int64_t)bits, (float)bits, (float)(int32_t)bits, (float)(uint32_t)bits};
    h = digest(h, out, sizeof out);
    h = digest(h, whole, sizeof whole);
    h = digest(h, back, sizeof back);
  }
  return h;
}

int main(int argc, char **argv) {
  long rounds = setup(argc, argv, 1000);
  uint64_t seed = 19;
  for (long round = 0; round < rounds; round++) {
    for (int i = 0; i < 2000; i++)
      advance(0.01);
    say("%ld energy=%a", round, energy());
    say(" mandelbrot=%ld", mandelbrot(-0.7436 + (double)(round % 50) * 1e-5, 0.1318, 2.0 / (1 + round % 50)));
    say(" math=%a,%a,%a", sin(round), exp(-round / 10.0), pow(1.0001, round * 7.0));
    say(" conversions=%016llx\n", (unsigned long long)conversions(&seed));
  }
  return 0;
}
