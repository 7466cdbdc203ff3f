#include "base/machine.h"

#include <algorithm>
#include <atomic>
#include <chrono>
#include <cstdlib>
#include <fstream>
#include <limits>
#include <memory>
#include <thread>

#if defined(__linux__)
#include <sched.h>
#endif
#if defined(__APPLE__)
#include <sys/sysctl.h>
#endif

#include "base/compiled_targets.h"
#include "base/processor.h"

namespace sep {

#define SEP_DECLARE(name) extern const Target target_##name;
SEP_TARGETS(SEP_DECLARE)
#if SEP_WITH_V4VNNI
extern const IntegerTable integers_v4vnni;
#endif
#if SEP_WITH_V4BF16
extern const BfloatTable bfloats_v4bf16;
#endif
#if SEP_WITH_V4AMX
extern const BfloatTable bfloats_v4amx;
#endif

namespace {

std::vector<const Target*> usable() {
  std::vector<const Target*> out;
#define SEP_ADD(name) \
  if (runs_##name()) out.push_back(&target_##name);
  SEP_TARGETS(SEP_ADD)
  return out;
}

std::atomic<const Target*>& current() {
  static std::atomic<const Target*> t{usable().back()};
  return t;
}

#if defined(__linux__)
size_t sysfs_cache(int index, int* level, bool* data) {
  std::string dir = "/sys/devices/system/cpu/cpu0/cache/index" + std::to_string(index) + "/";
  std::ifstream lf(dir + "level"), tf(dir + "type"), sf(dir + "size");
  std::string type, size;
  if (!(lf >> *level) || !(tf >> type) || !(sf >> size) || size.empty()) return 0;
  *data = type != "Instruction";
  size_t n = std::strtoull(size.c_str(), nullptr, 10);
  return size.back() == 'K' ? n << 10 : size.back() == 'M' ? n << 20 : n;
}
#endif

Caches read_caches() {
  Caches c{32u << 10, 512u << 10, 0};  // a modest default where the system does not tell
#if defined(__linux__)
  for (int i = 0, level = 0; i < 8; i++) {
    bool data = false;
    size_t n = sysfs_cache(i, &level, &data);
    if (!n || !data) continue;
    if (level == 1) c.l1d = n;
    if (level == 2) c.l2 = n;
    if (level == 3) c.l3 = n;
  }
#elif defined(__APPLE__)
  auto ask = [](const char* key, size_t fallback) {
    int64_t v = 0;
    size_t len = sizeof v;
    return sysctlbyname(key, &v, &len, nullptr, 0) == 0 && v > 0 ? size_t(v) : fallback;
  };
  c.l1d = ask("hw.perflevel0.l1dcachesize", ask("hw.l1dcachesize", c.l1d));
  c.l2 = ask("hw.perflevel0.l2cachesize", ask("hw.l2cachesize", c.l2));
  c.l3 = ask("hw.l3cachesize", c.l3);
#endif
  return c;
}

Caches& caches_in_use() {
  static Caches c = read_caches();
  return c;
}

template <class F>
double best_seconds(F&& run, int rounds) {
  double best = std::numeric_limits<double>::infinity();
  for (int i = 0; i < rounds; i++) {
    auto t0 = std::chrono::steady_clock::now();
    run();
    best = std::min(best, std::chrono::duration<double>(std::chrono::steady_clock::now() - t0).count());
  }
  return best;
}

}  // namespace

const Caches& caches() { return caches_in_use(); }

void assume_caches(const Caches& sizes) { caches_in_use() = sizes; }

int usable_cores() {
#if defined(__linux__)
  cpu_set_t set;
  if (sched_getaffinity(0, sizeof set, &set) == 0) return std::max(1, CPU_COUNT(&set));
#endif
  return std::max(1u, std::thread::hardware_concurrency());
}

std::vector<std::string> targets() {
  std::vector<std::string> names;
  for (const Target* t : usable()) names.push_back(t->name);
  return names;
}

const Target& target() { return *current().load(std::memory_order_relaxed); }

const IntegerTable& integers() {
#if SEP_WITH_V4VNNI
  static const bool vnni = runs_v4vnni();
  if (vnni && &target() == &target_v4) return integers_v4vnni;
#endif
  return *target().integers;
}

namespace {

struct MatrixUnit {
  const char* name;
  const BfloatTable* table;
};

std::vector<MatrixUnit> units() {
  std::vector<MatrixUnit> out{{"vectors", target().bfloats}};
#if SEP_WITH_V4BF16
  static const bool bf16 = runs_v4bf16();
  if (bf16 && &target() == &target_v4) out.push_back({"avx512-bf16", &bfloats_v4bf16});
#endif
#if SEP_WITH_V4AMX
  static const bool amx = runs_v4amx();  // asks the system for the tiles, once
  if (amx && &target() == &target_v4) out.push_back({"amx", &bfloats_v4amx});
#endif
  return out;
}

std::atomic<const BfloatTable*> forced_unit{nullptr};

MatrixUnit unit_in_use() {
  const std::vector<MatrixUnit> all = units();
  const BfloatTable* forced = forced_unit.load(std::memory_order_relaxed);
  for (const MatrixUnit& unit : all)
    if (unit.table == forced) return unit;
  return all.back();
}

}  // namespace

const BfloatTable& bfloats() { return *unit_in_use().table; }

std::string matrix_unit() { return unit_in_use().name; }

std::vector<std::string> matrix_units() {
  std::vector<std::string> names;
  for (const MatrixUnit& unit : units()) names.push_back(unit.name);
  return names;
}

bool force_matrix_unit(const std::string& name) {
  const BfloatTable* pick = nullptr;
  for (const MatrixUnit& unit : units())
    if (name == unit.name) pick = unit.table;
  if (pick || name.empty()) forced_unit = pick;
  return pick || name.empty();
}

bool force(const std::string& name) {
  auto all = usable();
  const Target* pick = name.empty() ? all.back() : nullptr;
  for (const Target* t : all)
    if (name == t->name) pick = t;
  if (pick) current() = pick;
  return pick != nullptr;
}

double measure_fma() {
  double flops = 0;
  double s = best_seconds([&] { flops = target().fma_flops(1 << 20); }, 15);
  return flops / s / 1e9;
}

double measure_stream() {
  const ptrdiff_t n = ptrdiff_t(16) << 20;
  std::unique_ptr<float[]> a(new float[n]), b(new float[n]);
  std::fill_n(a.get(), n, 1.0f);
  std::fill_n(b.get(), n, 2.0f);
  double s = best_seconds(
      [&] {
        target().stream_bytes(reinterpret_cast<char*>(b.get()), reinterpret_cast<const char*>(a.get()),
                              n * ptrdiff_t(sizeof(float)));
        target().fence();
      },
      9);
  return 2.0 * double(n) * sizeof(float) / s / 1e9;
}

}  // namespace sep
