// A small pool of threads: workers spin briefly, then block. One parallel loop at a time; a caller that finds the pool
// busy runs its loop alone, so that several Python threads never oversubscribe the machine. Safe after fork.
#pragma once
#include <cstddef>
#include <functional>

namespace sep {

// Calls run(task, worker) for every task in [0, tasks), on at most `threads` threads, worker in [0, threads).
// Exceptions are passed on to the caller.
void parallel(ptrdiff_t tasks, int threads, const std::function<void(ptrdiff_t task, int worker)>& run);

// Within a loop, for its caller: while it waits for a worker that another process keeps from running, the worker may
// have its core.
void lend_core();
void take_core_back();

}  // namespace sep
