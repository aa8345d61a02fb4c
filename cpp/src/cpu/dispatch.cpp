// Picks the table of functions for this processor, once. Compiled with baseline flags only.
#include <cstdlib>
#include <cstring>

#include "timl/engine.h"

namespace timl {

extern const Engine<float> engine_float_baseline;
extern const Engine<double> engine_double_baseline;
#if defined(TIML_ENGINE_V3)
extern const Engine<float> engine_float_v3;
extern const Engine<double> engine_double_v3;
#endif
#if defined(TIML_ENGINE_V4)
extern const Engine<float> engine_float_v4;
extern const Engine<double> engine_double_v4;
#endif

namespace {

struct Tables {
  const Engine<float>* float32;
  const Engine<double>* float64;
};

// Best first. `__builtin_cpu_supports` asks processor and operating system.
int usable(Tables tables[3]) {
  int count = 0;
#if defined(TIML_ENGINE_V4)
  if (__builtin_cpu_supports("x86-64-v4")) tables[count++] = {&engine_float_v4, &engine_double_v4};
#endif
#if defined(TIML_ENGINE_V3)
  if (__builtin_cpu_supports("x86-64-v3")) tables[count++] = {&engine_float_v3, &engine_double_v3};
#endif
  tables[count++] = {&engine_float_baseline, &engine_double_baseline};
  return count;
}

// A null pair when `isa` cannot run here; the best when it is null or empty.
Tables find(const char* isa) {
  Tables tables[3];
  const int count = usable(tables);
  if (isa == nullptr || *isa == '\0') return tables[0];
  for (int i = 0; i < count; ++i)
    if (std::strcmp(isa, tables[i].float32->isa) == 0) return tables[i];
  return {nullptr, nullptr};
}

const Tables& in_use() {
  static const Tables tables = find(std::getenv("TIML_FORCE_ISA"));
  return tables;
}

}  // namespace

template <>
const Engine<float>* engine<float>() {
  return in_use().float32;
}
template <>
const Engine<double>* engine<double>() {
  return in_use().float64;
}
template <>
const Engine<float>* engine_for<float>(const char* isa) {
  return find(isa).float32;
}
template <>
const Engine<double>* engine_for<double>(const char* isa) {
  return find(isa).float64;
}

const char* isa_in_use() { return in_use().float32 == nullptr ? nullptr : in_use().float32->isa; }

int usable_isas(const char* names[3]) {
  Tables tables[3];
  const int count = usable(tables);
  for (int i = 0; i < count; ++i) names[i] = tables[i].float32->isa;
  return count;
}

}  // namespace timl
