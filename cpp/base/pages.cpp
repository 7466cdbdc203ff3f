#include "base/pages.h"

#include <algorithm>
#include <mutex>
#include <new>

#include "base/scratch.h"

#if defined(__linux__)
#include <sys/mman.h>
#endif

namespace sep {
namespace {

constexpr size_t kPage = size_t(2) << 20;  // a large page of x86-64 and of most arm64 systems
constexpr size_t kSlab = 2 * kPage;        // what small pieces share

std::shared_ptr<char> slab(size_t bytes) {
  const size_t align = bytes >= kPage ? kPage : kAlign;
  char* at = static_cast<char*>(::operator new(bytes, std::align_val_t(align)));
#if defined(__linux__)
  if (align == kPage) madvise(at, bytes, MADV_HUGEPAGE);  // a wish
#endif
  return {at, [align](char* p) { ::operator delete(p, std::align_val_t(align)); }};
}

}  // namespace

std::shared_ptr<char> pages(size_t bytes) {
  static std::mutex lock;
  static std::shared_ptr<char>& shared = *new std::shared_ptr<char>;  // never destroyed: threads may outlive statics
  static size_t used = kSlab;
  bytes = (std::max<size_t>(bytes, 1) + kAlign - 1) / kAlign * kAlign;
  if (bytes >= kSlab) return slab((bytes + kPage - 1) / kPage * kPage);
  std::lock_guard<std::mutex> hold(lock);
  if (used + bytes > kSlab) shared = slab(kSlab), used = 0;
  std::shared_ptr<char> piece(shared, shared.get() + used);
  used += bytes;
  return piece;
}

}  // namespace sep
