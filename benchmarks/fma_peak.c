/* Multiply-adds that never leave the registers: the most that one core can do in float32. */
#if defined(__AVX512F__)
#define LANES 16
#define CHAINS 24
#elif defined(__AVX__)
#define LANES 8
#define CHAINS 12
#elif defined(__aarch64__)
#define LANES 4
#define CHAINS 24
#else
#define LANES 4
#define CHAINS 12
#endif

typedef float Vector __attribute__((vector_size(4 * LANES)));

long operations_per_round(void) { return 2L * LANES * CHAINS; }

/* The chains converge to 1 and neither overflow nor become subnormal. */
float multiply_add(long rounds, float scale, float shift) {
  Vector chain[CHAINS];
  for (int k = 0; k < CHAINS; ++k)
    for (int lane = 0; lane < LANES; ++lane) chain[k][lane] = scale + 0.01f * (float)(k + lane);
  for (long round = 0; round < rounds; ++round)
#pragma GCC unroll 24
    for (int k = 0; k < CHAINS; ++k) chain[k] = chain[k] * scale + shift;
  float sum = 0;
  for (int k = 0; k < CHAINS; ++k)
    for (int lane = 0; lane < LANES; ++lane) sum += chain[k][lane];
  return sum;
}
