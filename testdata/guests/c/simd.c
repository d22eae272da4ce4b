// SIMD: vectors held in locals across calls and loops, and passed through
// parameters and results.
// CFLAGS: -msimd128
#include "guest.h"
#include <wasm_simd128.h>

__attribute__((noinline)) static v128_t mix(v128_t a, v128_t b, int depth) {
  v128_t c = wasm_i32x4_add(wasm_i32x4_mul(a, wasm_i32x4_splat(1664525)), b);
  v128_t d = wasm_v128_xor(c, wasm_u32x4_shr(a, 7));
  if (depth == 0)
    return wasm_i8x16_shuffle(c, d, 3, 16, 9, 22, 1, 30, 12, 27, 5, 18, 14, 20, 7, 25, 11, 31);
  // c and d live across the call.
  v128_t e = mix(d, c, depth - 1);
  return wasm_i64x2_add(wasm_v128_xor(e, c), wasm_v128_andnot(d, wasm_i32x4_gt(e, c)));
}

__attribute__((noinline)) static v128_t saxpy(v128_t scale, const float *x, float *y, int n) {
  v128_t total = wasm_f32x4_splat(0);
  for (int i = 0; i < n; i += 4) {
    v128_t v = wasm_f32x4_add(wasm_f32x4_mul(scale, wasm_v128_load(x + i)), wasm_v128_load(y + i));
    v = wasm_f32x4_min(wasm_f32x4_max(v, wasm_f32x4_splat(-8)), wasm_f32x4_splat(8));
    wasm_v128_store(y + i, v);
    total = wasm_f32x4_add(total, v);
  }
  return total;
}

int main(int argc, char **argv) {
  long rounds = setup(argc, argv, 2000);
  enum { N = 4096 };
  static float x[N], y[N];
  uint64_t seed = 31;
  for (int i = 0; i < N; i++) {
    x[i] = (float)(int32_t)next(&seed) / 2147483648.0f;
    y[i] = (float)(int32_t)next(&seed) / 2147483648.0f;
  }
  v128_t state = wasm_i32x4_make(1, 2, 3, 4), sum = wasm_f32x4_splat(0);
  v128_t sad = wasm_i16x8_splat(0);
  for (long round = 0; round < rounds; round++) {
    for (int i = 0; i < 5000; i++)
      state = mix(state, wasm_i32x4_splat(i), 20);
    for (int i = 0; i < 40; i++)
      sum = wasm_f32x4_add(sum, saxpy(wasm_f32x4_splat(i % 2 ? 0.5f : -0.5f), x, y, N));
    sad = wasm_i16x8_add_sat(sad, wasm_i16x8_extmul_low_i8x16(state, wasm_i8x16_abs(state)));
    uint8_t bytes[48];
    wasm_v128_store(bytes, state);
    wasm_v128_store(bytes + 16, sum);
    wasm_v128_store(bytes + 32, sad);
    say("%ld lanes=%08x,%016llx sum=%a %016llx\n", round, (unsigned)wasm_i32x4_extract_lane(state, 2),
        (unsigned long long)wasm_i64x2_extract_lane(state, 0), (double)wasm_f32x4_extract_lane(sum, 1),
        (unsigned long long)digest(DIGEST_START, bytes, sizeof bytes));
  }
  return 0;
}
