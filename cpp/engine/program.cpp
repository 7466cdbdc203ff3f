#include "engine/program.h"

#include <algorithm>
#include <atomic>
#include <chrono>
#include <numeric>
#include <utility>

#include "base/pages.h"
#include "base/pool.h"

#if defined(__x86_64__) || defined(_M_X64)
#include <immintrin.h>
#endif

namespace sep {
namespace {

// Numbers below the normal ones count as zero while this lives: they cost a hundred times as much on many processors.
class FlushedDenormals {
 public:
#if defined(__x86_64__) || defined(_M_X64)
  FlushedDenormals() : before_(_mm_getcsr()) { _mm_setcsr(before_ | 0x8040); }  // FTZ and DAZ
  ~FlushedDenormals() { _mm_setcsr(before_); }

 private:
  unsigned before_;
#elif defined(__aarch64__)
  FlushedDenormals() {
    __asm__ volatile("mrs %0, fpcr" : "=r"(before_));
    __asm__ volatile("msr fpcr, %0" : : "r"(before_ | (uint64_t(1) << 24)));
  }
  ~FlushedDenormals() { __asm__ volatile("msr fpcr, %0" : : "r"(before_)); }

 private:
  uint64_t before_;
#else
  FlushedDenormals() {}
#endif
};

constexpr ptrdiff_t kLine = 16;  // elements of a cache line: buffers begin at one

constexpr int kSpins = 1000;  // about 10 to 40 us before a thread that waits for the others blocks

void pause_briefly() {
#if defined(__x86_64__) || defined(_M_X64)
  _mm_pause();
#elif defined(__aarch64__)
  __asm__ volatile("yield");
#endif
}

constexpr int64_t kPatience = 200'000;  // nanoseconds

int64_t now() { return std::chrono::nanoseconds(std::chrono::steady_clock::now().time_since_epoch()).count(); }

// The pieces of one step that a thread takes first: neighbours, so that what it made in one step lies in its cache in
// the next. Whoever is through with its own takes from the others.
struct alignas(kAlign) Portion {
  std::atomic<ptrdiff_t> next{0};
  ptrdiff_t end = 0;
};

struct alignas(kAlign) Progress {
  std::atomic<ptrdiff_t> done{0};
  ptrdiff_t pieces = 0;

  void finish_one() {
    if (done.fetch_add(1, std::memory_order_acq_rel) + 1 == pieces) done.notify_all();
  }
  // own: the nanoseconds of the longest of the waiting thread's pieces. A piece that takes far longer has a thread that
  // another process keeps from running.
  void wait(bool is_caller, int64_t own) const {
    for (int i = 0; i < kSpins; i++) {
      if (finished()) return;
      pause_briefly();
    }
    const int64_t patience = std::max<int64_t>(3 * own, kPatience), start = now();
    while (is_caller && now() - start < patience) {
      if (finished()) return;
      pause_briefly();
    }
    if (is_caller) lend_core();
    for (ptrdiff_t d; (d = done.load(std::memory_order_acquire)) < pieces;) done.wait(d);
    if (is_caller) take_core_back();
  }
  bool finished() const { return done.load(std::memory_order_acquire) >= pieces; }
};

}  // namespace

struct Program::Call {
  Call(ptrdiff_t arena, size_t scratch_size, int workers, size_t steps)
      : threads(workers),
        memory(Scratch::bytes<float>(arena) + size_t(workers) * scratch_size),
        progress(steps),
        portions(steps * size_t(workers)) {
    arena_at = memory.take<float>(arena);
    for (int i = 0; i < workers; i++) scratch_at.push_back(memory.take<char>(ptrdiff_t(scratch_size)));
  }
  int threads;
  Pages memory;
  float* arena_at;
  std::vector<char*> scratch_at;
  std::vector<float*> bases;
  std::vector<Progress> progress;
  std::vector<Portion> portions;  // of each step, for each thread
};

Program::Program(ptrdiff_t arena, int inputs, int outputs) : arena_(arena), inputs_(inputs), outputs_(outputs) {}
Program::~Program() = default;

int Program::constant(const float* values) {
  constants_.push_back(values);
  return inputs_ + outputs_ + int(constants_.size());
}

void Program::add(std::unique_ptr<Step> step) {
  steps_.push_back(std::move(step));
  if (steps_.back()->weights().bytes)  // those before it that have arithmetic to do meanwhile
    for (size_t i = steps_.size() - 1, met = 0; i-- > 0 && met < 2;)
      if (steps_[i]->fetches()) {
        std::vector<Step::Fetched> following;
        for (size_t j = i + 1; j < steps_.size(); j++)
          if (steps_[j]->weights().bytes) following.push_back(steps_[j]->weights());
        steps_[i]->precede(following);
        met++;
      }
}

size_t Program::memory_bytes(int threads) const {
  size_t scratch = 0;
  for (const auto& step : steps_) scratch = std::max(scratch, step->scratch_bytes());
  return Scratch::bytes<float>(arena_) + size_t(threads) * Scratch::bytes<char>(ptrdiff_t(scratch));
}

std::unique_ptr<Program::Call> Program::begin(int threads) const {
  size_t scratch = 0;
  for (const auto& step : steps_) scratch = std::max(scratch, step->scratch_bytes());
  scratch = Scratch::bytes<char>(ptrdiff_t(scratch));
  std::unique_ptr<Call> call;
  {
    std::lock_guard<std::mutex> hold(lock_);
    while (!idle_.empty() && !call) {
      if (idle_.back()->threads >= threads && idle_.back()->progress.size() == steps_.size())
        call = std::move(idle_.back());
      idle_.pop_back();
    }
  }
  if (!call) call = std::make_unique<Call>(arena_, scratch, threads, steps_.size());
  for (size_t i = 0; i < steps_.size(); i++) {
    Progress& p = call->progress[i];
    p.done = 0, p.pieces = steps_[i]->pieces(threads);
    for (int w = 0; w < threads; w++) {
      Portion& own = call->portions[i * size_t(call->threads) + size_t(w)];
      own.next = (p.pieces * w + threads - 1) / threads;  // a single piece is the caller's
      own.end = (p.pieces * (w + 1) + threads - 1) / threads;
    }
    for (int w = threads; w < call->threads; w++) {
      Portion& none = call->portions[i * size_t(call->threads) + size_t(w)];
      none.next = 0, none.end = 0;
    }
  }
  return call;
}

void Program::end(std::unique_ptr<Call> call, int kept) const {
  std::lock_guard<std::mutex> hold(lock_);
  if (idle_.size() < size_t(std::max(kept, 2))) idle_.push_back(std::move(call));
}

void Program::place(Call& call, float* const* inputs, float* const* outputs, const ptrdiff_t* pitches,
                    ptrdiff_t image) const {
  call.bases.assign(1, call.arena_at);
  for (int i = 0; i < inputs_; i++) call.bases.push_back(inputs[i] + image * pitches[i]);
  for (int i = 0; i < outputs_; i++) call.bases.push_back(outputs[i] + image * pitches[inputs_ + i]);
  for (const float* c : constants_) call.bases.push_back(const_cast<float*>(c));
}

void Program::work(Call& call, int worker, int64_t* nanoseconds) const {
  const FlushedDenormals flushed;
  const Memory memory{call.bases.data()};
  for (size_t i = 0; i < steps_.size(); i++) {
    Progress& p = call.progress[i];
    const int64_t start = now();
    int64_t longest = 0, before = start;
    for (int other = 0; other < call.threads; other++) {
      Portion& portion = call.portions[i * size_t(call.threads) + size_t((worker + other) % call.threads)];
      for (ptrdiff_t piece; (piece = portion.next.fetch_add(1, std::memory_order_relaxed)) < portion.end;) {
        steps_[i]->run(piece, p.pieces, memory, call.scratch_at[size_t(worker)]);
        p.finish_one();
        const int64_t after = now();
        longest = std::max(longest, after - before);
        before = after;
      }
    }
    p.wait(worker == 0, longest);
    if (nanoseconds && worker == 0) nanoseconds[i] = now() - start;
  }
}

// As many threads as save more time than they take to wait for each other: a piece has so much work that a thread's
// share of it is worth two meetings.
int Program::threads_for(int threads) const {
  if (threads == 1) return 1;
  ptrdiff_t saved = 0;
  for (const auto& step : steps_) {
    const ptrdiff_t pieces = step->pieces(threads);
    saved += pieces - (pieces + threads - 1) / threads;
  }
  return 2 * saved > ptrdiff_t(steps_.size()) ? threads : 1;
}

void Program::run(float* const* inputs, float* const* outputs, int threads, int64_t* nanoseconds) const {
  threads = threads_for(threads);
  std::unique_ptr<Call> call = begin(threads);
  const std::vector<ptrdiff_t> pitches(size_t(inputs_ + outputs_));
  place(*call, inputs, outputs, pitches.data(), 0);
  parallel(threads, threads, [&](ptrdiff_t, int worker) { work(*call, worker, nanoseconds); });
  end(std::move(call), 1);
}

void Program::run_images(float* const* inputs, float* const* outputs, const ptrdiff_t* pitches, ptrdiff_t images,
                         int threads, int64_t* nanoseconds) const {
  std::mutex counting;
  std::vector<int64_t> total(steps_.size());
  parallel(images, threads, [&](ptrdiff_t image, int) {
    std::unique_ptr<Call> call = begin(1);
    place(*call, inputs, outputs, pitches, image);
    std::vector<int64_t> taken(nanoseconds ? steps_.size() : 0);
    work(*call, 0, nanoseconds ? taken.data() : nullptr);
    end(std::move(call), threads);
    std::lock_guard<std::mutex> hold(counting);
    for (size_t i = 0; i < taken.size(); i++) total[i] += taken[i];
  });
  const int64_t at_once = std::min<int64_t>(threads, images);
  for (size_t i = 0; nanoseconds && i < total.size(); i++) nanoseconds[i] = total[i] / at_once;
}

std::vector<ptrdiff_t> places_in_arena(const std::vector<Stretch>& stretches) {
  std::vector<size_t> order(stretches.size());
  std::iota(order.begin(), order.end(), size_t(0));
  std::stable_sort(order.begin(), order.end(),
                   [&](size_t a, size_t b) { return stretches[a].size > stretches[b].size; });
  std::vector<ptrdiff_t> places(stretches.size() + 1, 0);
  std::vector<size_t> placed;
  std::vector<std::pair<ptrdiff_t, ptrdiff_t>> taken;
  ptrdiff_t arena = 0;
  for (size_t number : order) {
    const Stretch& own = stretches[number];
    const auto rounded = [](ptrdiff_t size) { return (size + kLine - 1) / kLine * kLine; };
    taken.clear();
    for (size_t other : placed)
      if (stretches[other].first <= own.last && own.first <= stretches[other].last)
        taken.emplace_back(places[other], places[other] + rounded(stretches[other].size));
    std::sort(taken.begin(), taken.end());
    const ptrdiff_t size = rounded(own.size);
    ptrdiff_t at = 0;
    for (const auto& [start, end] : taken) {
      if (start - at >= size) break;
      at = std::max(at, end);
    }
    places[number] = at;
    placed.push_back(number);
    arena = std::max(arena, at + size);
  }
  places.back() = arena;
  return places;
}

}  // namespace sep
